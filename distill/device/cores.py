"""The cores that this process may use: those that are really there, not those of the machine."""

import math
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def available_cores(groups: Path = GROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """The number of cores by affinity and by the quotas of all control groups above, at least 1.

    A quota of 1.5 cores counts as 2 (cgroups(7): `cpu.max`, and `cpu.cfs_quota_us` of version 1).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [_quota(folder) for folder in _folders(groups, membership)]
    least = min((quota for quota in quotas if quota is not None), default=math.inf)
    return max(1, min(allowed or 1, math.ceil(min(least, 2**20))))


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
