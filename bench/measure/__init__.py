"""Measuring: one trial, one fresh child process, the outcome as a value.

    isolate     runs a child under a time limit and makes a trial of what became of it
    forkserver  runs children that need not import torch again
    worker      the child: builds the step, runs it, writes what it read
    prover      the child of a verification: trains long, saves, loads, evaluates
    meter       what a child reads of its device
    card        what device is there, asked in a child of its own
    record      one step under the allocator's own history, for golden traces

The parent never touches CUDA.
"""
