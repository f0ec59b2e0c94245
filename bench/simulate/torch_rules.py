"""What differs between releases of torch: one table, a row a release that changed something.

Every other rule is that of 2.11. A rule stands where it is used; which of its forms a release has
stands here. Loads no torch.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import Literal

EqualBlocks = Literal["lowest address", "oldest block", "oldest segment"]
"""Which of several free blocks of one size is taken."""

Workspaces = Literal["one a library", "shared", "each call"]
"""Who has the workspace of a product: cuBLAS and cublasLt each one that is kept, both the same one,
or every call its own, which it gives back."""


@dataclass(frozen=True, kw_only=True)
class TorchRules:
    """The forms of the rules that one release of torch has."""

    equal_blocks: EqualBlocks = "lowest address"
    workspaces: Workspaces = "one a library"
    truth_bytes: int | None = None
    """Bytes of what `any` and `all` gather; `None` is those of the numbers that they look at."""
    sorts_used_bits: bool = False
    """Whether the sort of an embedding's tokens looks only at the bits that they can have."""
    seed_on_card: bool = False
    """Whether memory-efficient attention that drops nothing has its seed and offset on the card."""
    norms_by_chunk: bool = False
    """Whether the norms of a list take a number a chunk of each, and not of the largest."""


FIRST = TorchRules()
TORCH_2_12 = replace(FIRST, equal_blocks="oldest block", workspaces="shared", truth_bytes=1)
TORCH_2_13 = replace(TORCH_2_12, equal_blocks="oldest segment", sorts_used_bits=True)
TORCH_2_14 = replace(TORCH_2_13, seed_on_card=True)
TORCH_2_15 = replace(TORCH_2_14, workspaces="each call", norms_by_chunk=True)

BY_RELEASE: dict[tuple[int, int], TorchRules] = {
    (2, 11): FIRST,
    (2, 12): TORCH_2_12,
    (2, 13): TORCH_2_13,
    (2, 14): TORCH_2_14,
    (2, 15): TORCH_2_15,
}
"""The rules from each release on. Sources, as pull requests of pytorch/pytorch: 178362 and 183591
(equal blocks, c10/cuda/CUDACachingAllocator.cpp), 168175 and 194311 (workspaces,
ATen/cuda/CublasHandlePool.cpp)."""


def rules_of(torch: str) -> TorchRules:
    """The rules of a release, `2.13.0+cu130` for one: those of the last row that is not later.

    Those of the first row for a text that is no release, as a file may have it.
    """
    named = re.match(r"(\d+)\.(\d+)", torch)
    release_named = (int(named[1]), int(named[2])) if named else min(BY_RELEASE)
    earlier = [release for release in BY_RELEASE if release <= release_named]
    return BY_RELEASE[max(earlier, default=min(BY_RELEASE))]


@cache
def installed_rules() -> TorchRules:
    """The rules of the torch that is installed here."""
    return rules_of(version("torch"))
