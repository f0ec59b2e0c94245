"""The most workspace that cuDNN may take for a convolution, where only a card could tell. Pure.

Rules read off the recordings of two cards of compute capability 9.0 (`results/evidence/`,
`tests/bench/simulate/kernels/test_workspace_bound.py`): there every plan that no rule names took
exactly what cuDNN says of a described card.

- A kernel in clusters divides what its last wave leaves to do among the multiprocessors. Each has
  one partial tile at most, and the largest tile has 128 × 256 numbers. cuDNN counts the
  multiprocessors of its own card, 18 for a described one; no key of a description moves that.
- A 1×1 convolution of stride 1 is a matrix product, which cuDNN may leave to cuBLAS: that engine
  is not on a described card's list. Shares of a product are partial tiles again. The gradient of
  the filter is computed for each image by itself and added up, in 32 bits.
- A depthwise convolution of 16 bits runs in what the list says, or in an engine that it lacks and
  that takes nothing; in channels-last order the gradient of the filter is added up from shares,
  128 of them with 16 images on 132 multiprocessors. It is not known which of the two decides, so
  the larger counts: a share each multiprocessor, or eight each image.

Assumed: other cards have no kernels in clusters, as none is listed for them, and their 1×1 and
depthwise convolutions are like those recorded. None of them has recorded anything yet.
"""

from math import prod

from bench.simulate.kernels.convolution import Convolution, ConvolutionPass
from bench.simulate.kernels.cudnn import ConvolutionPlan

LARGEST_TILE_BYTES = 128 * 256 * 4
"""A thread block's partial result: the largest tile of cuDNN's and cuBLAS's kernels for 9.0, in
32 bits. Half of it was the most that was recorded."""

SUM_BYTES = 4
SHARES_EACH_IMAGE = 8


def workspace_bound(
    kind: ConvolutionPass, convolution: Convolution, plan: ConvolutionPlan, multiprocessors: int
) -> int:
    """Bytes that the workspace can have at most; the plan's own where that is certain."""
    own, scratch = plan.workspace_bytes, multiprocessors * LARGEST_TILE_BYTES
    sums = SUM_BYTES * prod(convolution.weight)
    images = convolution.input[0]
    most = own + scratch if plan.has_clusters else own
    if convolution.is_pointwise:
        most = max(most, scratch)
        if kind == "backward_filter":
            most = max(most, images * sums)
    shared_out = convolution.is_depthwise and convolution.channels_last
    if shared_out and convolution.number != "fp32" and kind == "backward_filter":
        most = max(most, max(multiprocessors, SHARES_EACH_IMAGE * images) * sums)
    return most
