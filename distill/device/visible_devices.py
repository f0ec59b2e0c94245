"""Keeps a predicting process from the GPU that may be there.

PyTorch's C++ makes a context for fake CUDA tensors where it finds a device (CUDAGuardImpl::
getStream, torch 2.11), which takes hundreds of MiB of it. Children inherit what is hidden here.
"""

import os


def hide_devices() -> None:
    """Hide every CUDA device from this process. Call it before the first CUDA call."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
