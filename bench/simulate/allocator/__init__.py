"""PyTorch's caching allocator for CUDA as a model: pure arithmetic on sizes and addresses.

    caching_allocator  the rules, each named after its C++ function
    blocks             blocks, and the pools that they wait in
    memory_stats       bytes now and at their peaks, as PyTorch counts them
    segment_sizes      how large a block and a segment are for a request

Imports nothing else of `simulate` but which rules the installed torch has, and no torch. Refuses
to know programs, owners and phases: it is given sizes one after the other (`replay` does that),
and settings that the pins rule out are not modelled.
"""
