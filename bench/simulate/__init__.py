"""The engine that predicts memory without a GPU: a candidate and a target in, bytes out.

    families       many candidates, a process for each family
    user_step/     a training step of the user's own code
    predictor      one candidate: traced where it must be, replayed where it can be
    peaks          the replays of a run: other orders of segments, larger workspaces
    cache          traced programs on the disk
    replay         a program through the allocator: peaks, and the owner of each byte
    largest_batch  the search for the largest batch that fits
    trace/         the real step on fake tensors, written down as a program
    kernels/       the bytes that CUDA kernels allocate inside themselves
    program/       a program as values: sizes as a + b · batch, its parts in any order
    allocator/     PyTorch's caching allocator as a model
    torch_rules    which form of a rule each release of torch has

Imports go down this list. Of `kernels` `trace` knows only how one refuses (`KernelRefused`): the
table is handed to it. From outside come `distill` and `bench.trials.digests`.

Refuses to look at a device, so that a prediction is the same with a GPU and without one. Measures
nothing, chooses nothing, prints nothing.
"""
