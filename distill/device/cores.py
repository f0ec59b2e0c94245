"""The cores that are really there, and how many of them a model can use.

Not those of the machine: a container, a batch system or `taskset` leaves a process some of them.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path

from distill.spec.candidate import Candidate

GROUPS = Path("/sys/fs/cgroup")

GRAIN_ELEMENTS = 32768
"""PyTorch leaves less than that to one thread (at::internal::GRAIN_SIZE, aten/src/ATen/
TensorIterator.h)."""


def available_cores(groups: Path = GROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """The number of cores by affinity and by the quotas of all control groups above, at least 1.

    A quota of 1.5 cores counts as 2 (cgroups(7): `cpu.max`, and `cpu.cfs_quota_us` of version 1).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [_quota(folder) for folder in _folders(groups, membership)]
    least = min((quota for quota in quotas if quota is not None), default=math.inf)
    return max(1, min(allowed or 1, math.ceil(min(least, 2**20))))


def useful_threads(candidates: Iterable[Candidate], cores: int) -> int:
    """The threads for which the largest of the candidates has work; no more than there are cores.

    What goes through a block is measured by the grain that PyTorch shares out. Where the shape is
    timm's own, it is taken to be as large as the image, as it is for ViT-Base with patches of 16.
    """
    most = max((one.micro_batch * _elements_of_an_image(one) for one in candidates), default=0)
    return max(1, min(cores, most // GRAIN_ELEMENTS))


def _elements_of_an_image(candidate: Candidate) -> int:
    model = candidate.student
    if model.patch_size is None or model.width is None:
        return 3 * model.image_size**2
    return ((model.image_size // model.patch_size) ** 2 + 1) * model.width


def _folders(groups: Path, membership: Path) -> list[Path]:
    """The folders of this process's groups and of those above; a container sees its own as root."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    found = [groups, groups / "cpu"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / controllers if controllers else groups
        below = root / place.lstrip("/")
        found += [below, *(above for above in below.parents if above.is_relative_to(root))]
    return list(dict.fromkeys(found))


def _quota(folder: Path) -> float | None:
    """The cores that a group may use, or `None` where it is not limited."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii")
                for name in ("quota", "period")
            )
        except (OSError, ValueError):
            return None
    try:
        cores = int(quota) / int(period)  # "max" and -1 are no quota
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None
