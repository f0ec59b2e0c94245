"""The results of a batch on their way from the card to the CPU, while the host goes on.

A copy goes into pinned memory and an event is recorded behind it. Only who reads a result waits.
"""

import torch
from torch import Tensor


class BatchResult:
    """The mean loss and the (B, classes) logits of a batch, on the CPU or on their way there.

    `arrived` is the event that a card passes once they are there; `None` where they already are.
    """

    def __init__(
        self, loss: Tensor, logits: Tensor, arrived: torch.cuda.Event | None = None
    ) -> None:
        self._loss, self._logits, self._arrived = loss, logits, arrived

    @property
    def loss(self) -> Tensor:
        """The loss, once it is there."""
        self._wait()
        return self._loss

    @property
    def logits(self) -> Tensor:
        """The logits in fp32, once they are there."""
        self._wait()
        return self._logits

    def _wait(self) -> None:
        if self._arrived is not None:
            self._arrived.synchronize()
            self._arrived = None
            # Out of pinned memory, which is then given back.
            self._loss, self._logits = self._loss.clone(), self._logits.clone()
        self._logits = self._logits.float()


def recorded_event(device: torch.device) -> torch.cuda.Event | None:
    """An event that a card passes once it has done all that was queued so far; `None` on a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


def to_cpu(values: Tensor) -> Tensor:
    """A copy that is on its way to the CPU; there already where the values are there.

    It is pinned, and the device's own may be let go at once: what takes its bytes is queued behind
    the copy (`pin_out` in aten/src/ATen/native/TensorConversions.cpp, torch 2.11).
    """
    return values.detach().to("cpu", non_blocking=True)
