"""One optimizer update: the only forward, backward and update in this repository.

The probe times this, the predictor traces this, the chain trains with this. So nothing here
may depend on who calls it: no logging, no timing, no files, and no decision about memory.

    train    micro-batch ─ prepare ─ teacher ─ forward ─ backward ┐ × accumulation ─ update
    evaluate       batch ─ prepare ─ forward
    teach          batch ─ prepare ─ teacher          (`Teaching`; the step then has no teacher)

What it relies on, for memory that can be predicted:
- the teacher is frozen (`requires_grad_(False)`), so autocast keeps no low-precision copy of it;
- `backward` runs outside autocast, after the copies of the student's weights were let go;
- when `backward` runs, no local name holds a tensor of the graph but the scaled loss;
- what a micro-batch leaves behind is on the CPU, but for the gradients.

And for a card that never waits: nothing here reads a value. Loss and logits start their way to the
CPU before `backward`; whoever asks for one waits until it has arrived (`batch_result`).
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

# `inference_mode` is imported by its name so that the tracer can put its own in its place
# (bench/simulate/trace/fake_cuda.py). `torch.inference_mode` in the code would escape that.
from torch import Tensor, inference_mode, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from distill.data.batches import LOGITS_DTYPES, Batch
from distill.spec.candidate import Precision, SoftLoss
from distill.step.batch_result import BatchResult, recorded_event, to_cpu
from distill.step.losses import distillation_loss, label_loss
from distill.step.prepare import Prepare

Phase = Literal["setup", "prepare", "teacher", "forward", "backward", "update", "evaluate"]

AUTOCAST_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The weights of the loss (see `losses`) and the bound on the gradient's norm, if any.

    `class_weights` has one number a class for the labels' part of the loss.
    """

    alpha: float = 0.7
    temperature: float = 4.0
    clip_norm: float | None = None
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    soft_loss: SoftLoss = "kl"


def no_mark(phase: Phase) -> None:
    """Ignore the phases of a step."""


def autocast(
    precision: Precision, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    """The precision of forward passes, the student's and the teacher's."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST_DTYPES[precision])


def frozen(teacher: nn.Module) -> nn.Module:
    """The teacher as it teaches: it answers as in an evaluation and never learns."""
    return teacher.eval().requires_grad_(False)


def ask_teacher(teacher: nn.Module, prepare: Prepare, images: Tensor) -> Tensor:
    """The teacher's logits for images as the student sees them; inside `autocast`."""
    with torch.no_grad():
        logits: Tensor = teacher(prepare.for_teacher(images))
        return logits


class Teaching:
    """The teacher alone, ahead of a step: the very logits that it would give beside the student.

    They come in `LOGITS_DTYPES`, which rounds nothing that a linear head gives. `teacher` must
    already be on `prepare.device`.
    """

    def __init__(
        self,
        teacher: nn.Module,
        prepare: Prepare,
        precision: Precision,
        mark: Callable[[Phase], None] = no_mark,
    ) -> None:
        self.teacher = frozen(teacher)
        self.prepare = prepare
        self.precision: Precision = precision
        self.mark = mark

    def __call__(self, batch: Batch) -> Tensor:
        """Logits (B, classes) on the CPU, for the batch as its views show it."""
        self.mark("prepare")
        images = self.prepare(batch)
        self.mark("teacher")
        with autocast(self.precision, self.prepare.device):
            logits = ask_teacher(self.teacher, self.prepare, images)
        return logits.cpu().to(LOGITS_DTYPES[self.precision])


class Step:
    """Owns model, teacher, loss, autocast, scaler and optimizer.

    `student` and `teacher` must already be on `prepare.device`. `mark` is called with the name
    of each phase as it begins.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        optimizer: torch.optim.Optimizer,
        prepare: Prepare,
        *,
        objective: Objective,
        precision: Precision,
        mark: Callable[[Phase], None] = no_mark,
    ) -> None:
        self.student = student
        self.teacher = None if teacher is None else frozen(teacher)
        self.optimizer = optimizer
        self.prepare = prepare
        self.objective = objective
        self.precision: Precision = precision
        self.mark = mark
        self.replica: DistributedDataParallel | None = None
        self.replicas = 1
        on_cuda = prepare.device.type == "cuda"
        self.scaler = GradScaler(prepare.device.type, enabled=on_cuda and precision == "fp16")
        self.class_weights: Tensor | None = None
        if objective.class_weights is not None:
            self.class_weights = torch.tensor(objective.class_weights).to(prepare.device)

    def replicate(self, replicas: int) -> None:
        """Become one of so many steps that learn the same: gradients are averaged in `backward`.

        Each process of torch's default group calls it, with the same weights. Checkpointed blocks
        need no static graph, as none is reentrant (torch/nn/parallel/distributed.py).
        """
        self.replicas = replicas
        self.replica = DistributedDataParallel(
            self.student, gradient_as_bucket_view=True, broadcast_buffers=False, init_sync=False
        )

    def train(
        self,
        micro_batches: Sequence[Batch],
        accept: Callable[[Sequence[BatchResult]], bool] | None = None,
        images: int | None = None,
    ) -> list[BatchResult]:
        """One update from all the micro-batches, each weighted by its share of the `images`.

        `images` are those of all replicas together, by default the micro-batches'.

        Where `accept` says no to their results, the gradients are dropped instead. It is asked when
        the last backward is queued: a card works on that while the host waits for a loss. Raises
        `torch.OutOfMemoryError` where memory ends; gradients may then be left behind, which
        `abandon` removes.
        """
        self.student.train()
        if images is None:
            images = sum(len(batch) for batch in micro_batches)
        results = []
        for place, batch in enumerate(micro_batches, start=1):
            with self._gradient_sync(last=place == len(micro_batches)):
                # DistributedDataParallel takes the mean over replicas; the sum is wanted.
                results.append(self._accumulate(batch, len(batch) * self.replicas / images))
        if accept is None or accept(results):
            self._update()
        else:
            self.abandon()
        return results

    def evaluate(self, batch: Batch) -> BatchResult:
        """The student's answer to one batch; nothing is learnt and nothing kept."""
        self.mark("evaluate")
        self.student.eval()
        with inference_mode():
            with autocast(self.precision, self.prepare.device):
                logits = self.student(self.prepare(batch))
            labels = batch.labels.to(self.prepare.device, non_blocking=True)
            loss = label_loss(logits.float(), labels)
            values = to_cpu(loss), to_cpu(logits.float())
            return BatchResult(*values, recorded_event(self.prepare.device))

    def abandon(self) -> None:
        """Drop what a failed `train` left, so that the next one starts clean."""
        self.optimizer.zero_grad(set_to_none=True)
        state = self.scaler.state_dict()
        if state:  # a scaler that has unscaled once refuses to do so again before an update
            self.scaler = GradScaler(self.prepare.device.type)
            self.scaler.load_state_dict(state)

    def _gradient_sync(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Replicas exchange gradients in the backward of the last micro-batch alone."""
        if self.replica is None or last:
            return contextlib.nullcontext()
        return self.replica.no_sync()

    def _accumulate(self, batch: Batch, weight: float) -> BatchResult:
        loss, logits = self._forward(batch)
        # The event comes before `backward` is queued: only the forward is waited for.
        result = BatchResult(to_cpu(loss), logits, recorded_event(self.prepare.device))
        scaled = self.scaler.scale(loss * weight)
        del loss  # before `backward`: this name would keep a tensor alive through all of it
        self.mark("backward")
        scaled.backward()
        return result

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, still in the graph, and logits for the CPU; all else is let go on return."""
        self.mark("prepare")
        images = self.prepare(batch)
        labels = batch.labels.to(self.prepare.device, non_blocking=True)
        mixed = self.prepare.mixed_labels(batch, labels)
        taught = batch.taught
        if taught is not None:
            taught = taught.to(self.prepare.device, non_blocking=True)
        with autocast(self.precision, self.prepare.device):
            if self.teacher is not None:
                self.mark("teacher")
                taught = ask_teacher(self.teacher, self.prepare, images)
            self.mark("forward")
            logits = (self.replica or self.student)(images)
            loss = distillation_loss(
                logits,
                taught,
                labels,
                alpha=self.objective.alpha,
                temperature=self.objective.temperature,
                class_weights=self.class_weights,
                label_smoothing=self.objective.label_smoothing,
                soft_loss=self.objective.soft_loss,
                mixed=mixed,
            )
        return loss, to_cpu(logits)

    def _update(self) -> None:
        self.mark("update")
        if self.objective.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            parameters = self.student.parameters()
            nn.utils.clip_grad_norm_(parameters, self.objective.clip_norm, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
