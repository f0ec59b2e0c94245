"""A traced program as values, and all that follows from it by arithmetic alone.

    arrange   the traced parts in the order of a training run
    roofline  a bound on images a second
    step_time seconds of an update: kernels, launches, and who waits for whom
    constants_fit  the two constants of a machine that these seconds rest on
    fit       two traces at two batch sizes as one program at all
    program   births and deaths in program order, each size as base + slope · batch

Imports nothing else of `simulate`, and of `distill.step` only the names of phases. Refuses to run
an op or to ask a kernel: the bytes of a kernel come in as a function. Sizes are bytes as
requested; blocks and segments belong to `allocator`.
"""
