"""Measuring: one trial, one fresh child process, the outcome as a value.

    isolate   runs a child under a time limit and makes a trial of what became of it
    worker    the child: builds the step, runs it, writes what it read
    card      what device is there, asked in a child of its own
    record    one step under the allocator's own history, for golden traces

The parent never touches CUDA.
"""
