"""The processes that train one stage together, as `torchrun` starts them, and what they agree on.

Gradients go through DistributedDataParallel (`Step.replicate`). All else that must be the same in
each process is said here, between two updates, over a group of its own on the CPU: the wish to
stop, losses that are not finite, scores, and what the first process found on the disk. Each method
here has to be called by every process; alone, it gives back what it was given.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from distill.base.signals import StopRequest
from distill.data.share import Share
from distill.step.batch_norm import batch_norms

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among `world_size`, counted from 0; `group` is theirs on the CPU."""

    rank: int = 0
    world_size: int = 1
    group: Any = None

    @property
    def leads(self) -> bool:
        """True for the one process that writes and speaks."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """The images of an update that are this process's."""
        return Share(self.rank, self.world_size)

    def barrier(self) -> None:
        """Wait until each process is here."""
        if self.world_size > 1:
            dist.barrier(group=self.group)

    def catch_up(self) -> None:
        """Let the others come as far as the leading process: they `meet` it before they begin."""
        if self.leads:
            self.barrier()
        self.barrier()

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        if self.world_size == 1:
            return [value]
        found: list[Any] = [None] * self.world_size
        dist.all_gather_object(found, value, group=self.group)
        return found

    def largest(self, value: int) -> int:
        """The largest of the processes' values."""
        if self.world_size == 1:
            return value
        box = torch.tensor([value], dtype=torch.int64)
        dist.all_reduce(box, dist.ReduceOp.MAX, group=self.group)
        return int(box)

    def all_agree(self, fine: bool) -> bool:
        """True if all processes say so."""
        return not self.largest(int(not fine))

    def stop_asked(self, stop: StopRequest) -> bool:
        """True if one of the processes was asked to stop; it is then asked of each."""
        if self.world_size == 1:
            return stop.number is not None
        number = self.largest(stop.number or 0)
        if number:
            stop.asked_elsewhere(number)
        return bool(number)

    def stop_asked_meanwhile(self, stop: StopRequest) -> None:
        """Said by the leading process now and then in work of its own, while `led` waits."""
        self._told(stop, ends=False)

    def led(self, stop: StopRequest) -> None:
        """Wait for work of the leading process, which calls this when it is done.

        Raises `Interrupted` where one of the processes was asked to stop meanwhile.
        """
        if self.leads:
            self._told(stop, ends=True)
            stop.raise_if_asked(stop.kept)  # as the others do
            return
        with stop.finishing(lambda: "as the leading process does, which keeps what there is"):
            try:
                while not self._told(stop, ends=False):
                    pass
            except RuntimeError:  # it has ended, and not before these have heard of the wish
                stop.raise_if_asked("What the leading process has is kept.")
                raise

    def _told(self, stop: StopRequest, *, ends: bool) -> bool:
        """One exchange: a wish to stop goes to all; true once the leading process has ended."""
        told = self.all_gather((stop.number or 0, ends))
        if number := max(number for number, _ in told):
            stop.asked_elsewhere(number)
        return told[0][1]

    def same_weights(self, model: nn.Module) -> None:
        """Give each process the first one's weights, in their place."""
        if self.world_size > 1:
            with torch.no_grad():
                for tensor in [*model.parameters(), *model.buffers()]:
                    dist.broadcast(tensor.data, src=0)

    def same_statistics(self, model: nn.Module) -> None:
        """Give batch norm's running statistics the mean over the processes, each of which saw its
        own images. They are sums over the past, so that it does not matter how often this is done.
        """
        if self.world_size == 1:
            return
        for norm in batch_norms(model):
            for tensor in (norm.running_mean, norm.running_var):
                if tensor is not None:
                    dist.all_reduce(tensor)
                    tensor.div_(self.world_size)


ALONE = Ranks()


def evaluation_range(count: int, at_once: int, ranks: Ranks) -> range:
    """Which of `count` images this process evaluates: whole batches, one after another.

    The ranges of all processes, in their order, are the batches of a single process.
    """
    batches = -(-count // at_once)
    first, end = (
        batches * rank // ranks.world_size * at_once for rank in (ranks.rank, ranks.rank + 1)
    )
    return range(min(first, count), min(end, count))
