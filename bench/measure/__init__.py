"""The measuring engine: one trial, one fresh child process, the outcome as a value.

    isolate       runs a child under a time limit and makes a trial of what became of it
    forkserver    runs children that need not import torch again
    jobs          what a child is asked to do, as JSON
    child         the start of every child: environment first, then torch, then the work
    trial_child   the work of a trial: builds the step, runs it, writes what it read
    meter         what a child reads of its device
    warm_up       when updates may be timed
    host_share    whether the card waits for the host, and what it launches

May import `trials` and `distill`. The parent never touches CUDA.
"""
