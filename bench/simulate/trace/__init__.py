"""The program of a step, written down while the real step runs on fake tensors.

    untraceable        a program, or one sentence that says why there is none
    tracer             every part of a training run, each once
    fake_cuda          torch persuaded that its fake tensors are on a card
    caching_fake_mode  fake tensors, each question asked once
    backward           the autograd graph walked as PyTorch's engine walks it
    ledger             every storage: born and freed, by which op, for whom
    on_card            results that a kernel puts on the card, and fake kernels elsewhere
    costs              arithmetic and traffic of each op

Of `simulate` it imports `program`, `torch_rules` and `KernelRefused`: what kernels allocate comes
in as a function (`ledger.Kernels`). Refuses to know how large a hidden allocation is or where a
block lies, and what it can't model it refuses by name.
"""
