"""The ops whose storages are alive at the peak, by owner: what a difference in bytes is due to.

Pure. Blocks of a model are taken together: their number in a module's name becomes `*`.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

from bench.simulate.program.program import Program
from bench.simulate.replay import PeakState
from distill.spec.file_values import OWNERS, Owner

NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")

WITHOUT_OP = "no op"
"""What is moved to the card as it was built."""


@dataclass(frozen=True, kw_only=True)
class OpBytes:
    """Requested bytes at the peak that one op made for one owner, most of them in `module`."""

    owner: Owner
    op: str
    module: str
    size_bytes: int


def ops_at_peak(program: Program, peak: PeakState) -> list[OpBytes]:
    """Every op with an owner, the most bytes first. They add up to what is requested there."""
    inside: dict[tuple[Owner, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for birth in peak.alive:
        owner = OWNERS[program.owner_of[birth]]
        op = str(program.op[birth]).removeprefix("aten.") or WITHOUT_OP
        module = NUMBER.sub("*", str(program.module[birth]))
        inside[owner, op][module] += int(peak.sizes[birth])
    found = [
        OpBytes(
            owner=owner,
            op=op,
            module=max(modules, key=lambda name: modules[name]),
            size_bytes=sum(modules.values()),
        )
        for (owner, op), modules in inside.items()
    ]
    return sorted((one for one in found if one.size_bytes), key=lambda one: -one.size_bytes)
