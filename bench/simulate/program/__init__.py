"""A traced program as values, and all that follows from it by arithmetic alone.

    constants_fit  the two constants of a machine that predicted seconds rest on
    step_time      seconds of an update: kernels, launches, and who waits for whom
    roofline       a bound on images a second
    buckets        the buckets of DistributedDataParallel, put into an arranged program
    arrange        the traced parts in the order of a training run
    fit            two traces at two batch sizes as one program at all
    packed         a program as arrays of a file, and back
    program        births and deaths in program order, each size as base + slope · batch

Imports nothing else of `simulate`, and of `distill.step` only the names of phases. Refuses to run
an op or to ask a kernel: the bytes of a kernel come in as a function. Sizes are bytes as
requested; blocks and segments belong to `allocator`.
"""
