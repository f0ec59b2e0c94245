"""The statistics of the caching allocator. Pure."""

from dataclasses import dataclass


@dataclass
class Statistics:
    """Bytes now and at their peaks, as `torch.cuda.memory_stats` counts them.

    `cap_needed` is the smallest cap under which all would have gone as it did. It can differ from
    the reserved peak either way: PyTorch wants room for a whole segment, then maps only the
    pages that are missing, and those whole.
    """

    requested: int = 0
    allocated: int = 0
    reserved: int = 0
    peak_requested: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0
    cap_needed: int = 0
    retries: int = 0
