"""The part of each update's images that one of several processes takes. Pure.

The images of an update are the same however many processes there are; each takes a run of them
that follow each other, as even as may be.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The share of process `rank` of `ranks`, counted from 0."""

    rank: int = 0
    ranks: int = 1

    def part(self, images: int, fewest: int = 1) -> range:
        """The places of this process's images among the `images` of an update.

        Parts are cut at multiples of `fewest`, so that images that are mixed in pairs stay together
        and no part has fewer. Where there are too few for all, each process takes every image.
        """
        units = images // fewest
        if units < self.ranks:
            return range(images)
        first, end = (units * place // self.ranks * fewest for place in (self.rank, self.rank + 1))
        return range(first, images if self.rank == self.ranks - 1 else end)

    def counts(self, images: int, fewest: int = 1) -> bool:
        """True if this process's outcomes are told: where all take every image, one does."""
        return self.rank == 0 or images // fewest >= self.ranks

    def parts(self, images: int, fewest: int = 1) -> list[range]:
        """The parts of all processes."""
        return [Share(rank, self.ranks).part(images, fewest) for rank in range(self.ranks)]


WHOLE = Share()
"""The share of a process that is alone."""
