"""Predicting a step's memory without a GPU.

    ledger     every storage of one device: born, freed, by which op and module
    backward   the autograd graph walked from Python, as PyTorch's engine walks it
    illusion   fake CUDA tensors, and torch persuaded to treat them as real
    tracer     runs `distill.step.step.Step` under the three and gives a trace
    kernels    what CUDA kernels allocate inside themselves
    trace      a trace as values: spans, sizes as a + b · batch, what to leave out
    allocator  PyTorch's caching allocator as a model
    replay     a trace through the allocator: peaks, and who owns each byte at the peak
    predictor  candidate and target in, prediction out

`ledger`, `backward`, `illusion` and `tracer` need torch; the others are pure.
"""
