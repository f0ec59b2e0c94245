"""This project's training beside a plain loop of timm, autocast and fused AdamW, in one run.

    python -m tests.benchmarks.against_plain_loop [--recipe demo] [--profile FILE] [--turns 60]

The same models, views, batches, precision and loss on both sides, on whatever device there is; the
images are noise, so that nothing is fetched. `per update` is what repeats: forward, backward,
update, loss and accuracy kept. `per epoch` is all of `train_stage` over three (validation, scores,
signals, files that survive a kill at any moment) beside a loop that validates and calls
`torch.save` for the last and the best weights. Both sides take turns. On a CPU it is processor
time, which other programs disturb less; waiting for a disk is not in it. Prints Markdown.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.base.signals import StopRequest
from distill.data.batches import Batch, training_batches
from distill.data.dataset import Dataset, Split
from distill.device.cores import available_cores
from distill.report.tables import Row, as_markdown
from distill.run.request import RunRequest, pick_device, planned
from distill.spec.candidate import StageName
from distill.spec.profile import read_profile
from distill.spec.recipe import load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe
from distill.spec.stage_plan import Overrides, StagePlan
from distill.step.assemble import assemble
from distill.step.memory import pinned, synchronize
from distill.step.models import build, normalisation_of
from distill.step.optim import make_optimizer
from distill.step.prepare import Prepare
from distill.step.step import AUTOCAST_DTYPES, Objective, Step
from distill.train.checkpoint import Identity, PartialEpoch, Position
from distill.train.events import EventLog
from distill.train.loop import train_stage
from distill.train.out_of_memory import OutOfMemoryHandler
from distill.train.run_folder import stage_folder
from distill.train.stage_job import StageJob

UPDATES = 20
"""Updates in an epoch of the noise, as the demo recipe has on digits."""

EPOCHS = 3
"""Epochs in a turn: what is written while the next one is trained needs a next one."""


@dataclass(frozen=True)
class Case:
    """One stage as it is trained on the device, and images of noise for it."""

    request: RunRequest
    plan: StagePlan
    data: Dataset

    @property
    def objective(self) -> Objective:
        distillation = self.request.recipe.distillation
        return Objective(
            alpha=distillation.alpha,
            temperature=distillation.temperature,
            clip_norm=self.plan.training.clip_norm,
        )

    def models(self) -> tuple[nn.Module, nn.Module | None]:
        """Student and teacher, the same for both sides."""
        torch.manual_seed(0)
        candidate = self.plan.candidate
        student = build(candidate.student, checkpointing=candidate.checkpointing)
        return student, None if candidate.teacher is None else build(candidate.teacher)

    def updates(self, *, pin: bool, epoch: int = 0) -> Iterator[list[Batch]]:
        """The updates of an epoch."""
        return training_batches(
            self.data.train,
            self.plan.candidate.input,
            seed=0,
            epoch=epoch,
            micro_batch=self.plan.candidate.micro_batch,
            effective_batch=self.plan.training.effective_batch,
            pin=pin,
        )


class Ours:
    """The step, and the loop around it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        student, teacher = case.models()
        self.step: Step = assemble(
            case.plan.candidate,
            student,
            teacher,
            case.request.device,
            objective=case.objective,
            learning_rate=case.plan.training.learning_rate,
            weight_decay=case.plan.training.weight_decay,
        )
        recipe, stage = case.request.recipe, case.plan.candidate.stage
        folder = stage_folder(case.request.folder, recipe, stage)
        events = EventLog(stage=stage, record=folder.events, json_log=None)
        self.job = StageJob(
            stage=stage,
            plan=case.plan,
            step=self.step,
            data=case.data,
            folder=folder,
            identity=Identity(stage=stage, recipe="", teacher=None),
            seed=0,
            stop=StopRequest(),
            events=events,
            handler=OutOfMemoryHandler(
                planned=case.plan.candidate.micro_batch,
                effective_batch=case.plan.training.effective_batch,
                precision=case.plan.candidate.precision,
                learning_rate=case.plan.training.learning_rate,
                folder=folder,
                events=events,
                advice=lambda batch: "",
            ),
        )

    def train(self, updates: Sequence[Sequence[Batch]]) -> None:
        """Updates as the loop makes them, their losses looked at and their outcomes kept."""
        position, partial = Position(rows=[], partial=None), PartialEpoch()
        for micro_batches in updates:
            results = self.job.handler.train(self.step, micro_batches, position)
            assert results is not None
            for batch, result in zip(micro_batches, results, strict=True):
                partial.tally.add(result.loss, result.logits, batch.labels)

    def epochs(self) -> None:
        """Whole epochs, from an empty folder to a finished stage."""
        for path in sorted(self.job.folder.root.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        assert train_stage(self.job).epoch == EPOCHS


class Plain:
    """What PyTorch's and timm's own examples do."""

    def __init__(self, case: Case) -> None:
        self.case, self.device = case, case.request.device
        candidate, training = case.plan.candidate, case.plan.training
        student, teacher = case.models()
        self.student = student.to(self.device)
        self.teacher = None if teacher is None else teacher.to(self.device).eval()
        channels = candidate.student.channels
        self.prepare = Prepare(
            candidate.input,
            candidate.student.image_size,
            normalisation_of(student, channels),
            self.device,
            teacher=None if teacher is None else normalisation_of(teacher, channels),
        )
        self.optimizer = make_optimizer(
            self.student,
            kind=candidate.optimizer,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            implementation="fused",
        )
        on_cuda = self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=on_cuda and candidate.precision == "fp16"
        )
        dtype = AUTOCAST_DTYPES.get(candidate.precision)
        self.autocast = torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits, with the teacher's softened answers where there is a teacher."""
        logits = self.student(images)
        loss = F.cross_entropy(logits, labels)
        if self.teacher is not None:
            alpha, warm = self.case.objective.alpha, self.case.objective.temperature
            with torch.no_grad():
                taught = self.teacher(self.prepare.for_teacher(images))
            student, teacher = F.log_softmax(logits / warm, 1), F.log_softmax(taught / warm, 1)
            soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
            loss = alpha * warm**2 * soft + (1 - alpha) * loss
        return loss, logits

    def train(self, updates: Iterable[Sequence[Batch]]) -> None:
        """Forward, backward, clip, update; loss and right answers summed on the device."""
        self.student.train()
        total, right = (torch.zeros((), device=self.device) for _ in range(2))
        for micro_batches in updates:
            for batch in micro_batches:
                images, labels = self.prepare(batch), batch.labels.to(self.device)
                with self.autocast:
                    loss, logits = self.loss(images, labels)
                self.scaler.scale(loss / len(micro_batches)).backward()
                total += loss.detach() * len(batch)
                right += (logits.argmax(1) == labels).sum()
            if self.case.objective.clip_norm is not None:
                self.scaler.unscale_(self.optimizer)
                parameters = self.student.parameters()
                nn.utils.clip_grad_norm_(parameters, self.case.objective.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
        float(total), float(right)

    def epochs(self) -> None:
        """Epochs, a validation and two files after each."""
        for epoch in range(EPOCHS):
            self.train(self.case.updates(pin=False, epoch=epoch))
            self.validate()
            state = {"model": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
            torch.save(state, self.case.request.out / "plain-last.pth")
            torch.save(self.student.state_dict(), self.case.request.out / "plain-best.pth")

    def validate(self) -> int:
        """Right answers among the validation images."""
        self.student.eval()
        right = 0
        size = self.case.plan.candidate.images_evaluated_at_once
        with torch.inference_mode(), self.autocast:
            for start in range(0, len(self.case.data.val), size):
                rows = np.arange(start, min(start + size, len(self.case.data.val)))
                images = torch.from_numpy(self.case.data.val.images_at(rows))
                labels = torch.from_numpy(self.case.data.val.labels[rows])
                batch = Batch(images, labels, None)
                answers = self.student(self.prepare(batch)).argmax(1)
                right += int((answers == labels.to(self.device)).sum())
        return right


def noise(count: int, plan: StagePlan) -> Split:
    spec, classes = plan.candidate.input, plan.candidate.student.classes
    generator = np.random.default_rng(0)
    size, channels = spec.source_size, plan.candidate.student.channels
    shape = (count, channels, size, size)
    images = generator.integers(0, 256, shape, dtype=np.uint8)
    return Split(images, generator.integers(0, classes, count))


def case_of(request: RunRequest, stage: StageName) -> Case:
    plan = planned(request, request.recipe.stage_named(stage))
    images = UPDATES * plan.training.effective_batch
    train, val = noise(images, plan), noise(images // 4, plan)
    classes = tuple(map(str, range(plan.candidate.student.classes)))
    data = Dataset(name="noise", classes=classes, train=train, val=val, test=val)
    return Case(request, plan, data)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a turn: on a card to the end of its work, on a CPU those of the processor."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    synchronize(device)
    began = clock()
    work()
    synchronize(device)
    return clock() - began


@dataclass(frozen=True)
class Compared:
    """Seconds of both sides, a pair a turn."""

    plain: list[float]
    ours: list[float]

    def row(self, stage: StageName, what: str, of: int = 1) -> Row:
        """Medians, and the ratio of medians and of what a quarter of the turns were faster than."""
        (fast, middle, _), (our_fast, our_middle, _) = (
            quantiles(side, n=4, method="inclusive") for side in (self.plain, self.ours)
        )
        return {
            "stage": stage,
            "per": what,
            "plain loop ms": f"{1000 * middle / of:.1f}",
            "this project ms": f"{1000 * our_middle / of:.1f}",
            "plain ÷ this": f"{middle / our_middle:.3f}",
            "of the faster quarter": f"{fast / our_fast:.3f}",
            "turns": str(len(self.plain)),
        }


def compared(
    plain: Callable[[], object], ours: Callable[[], object], device: torch.device, turns: int
) -> Compared:
    """Both take turns, and turns to be the first; one turn each before it counts."""
    plain(), ours()
    found = Compared([], [])
    both = ((plain, found.plain), (ours, found.ours))
    for turn in range(turns):
        for work, times in both if turn % 2 else reversed(both):
            times.append(seconds(work, device))
    return found


def rows_of(case: Case, turns: int) -> list[Row]:
    """The table's rows for one stage."""
    device, stage = case.request.device, case.plan.candidate.stage
    with pinned(case.plan.pins, device):
        plain, ours = Plain(case), Ours(case)
        one = next(iter(case.updates(pin=False)))
        there = next(iter(case.updates(pin=device.type == "cuda")))
        update = compared(lambda: plain.train([one]), lambda: ours.train([there]), device, turns)
        epoch = compared(plain.epochs, ours.epochs, device, turns // 12)
    return [update.row(stage, "update"), epoch.row(stage, "epoch", of=EPOCHS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default=None)
    parser.add_argument("--profile", type=Path, default=None)
    parser.add_argument("--precision", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--turns", type=int, default=60)
    asked = parser.parse_args()
    device = pick_device(asked.device)
    profile = None if asked.profile is None else read_profile(asked.profile)
    name = asked.recipe or (profile.recipe.name if profile else "demo")
    short = RecipeChanges(epochs=EPOCHS, warmup_epochs=0, pretrained=False)
    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest(
            recipe=changed_recipe(load_recipe(name), short),
            profile=profile,
            overrides=Overrides(precision=asked.precision),
            stage="all",
            out=Path(folder),
            data_dir=Path(folder),
            device=device,
        )
        rows: list[Row] = []
        for stage in request.recipe.stage:
            rows += rows_of(case_of(request, stage.name), asked.turns)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(
        f"{card}, {torch.get_num_threads()} thread(s) of {available_cores()} core(s), torch "
        f"{torch.__version__}, Python {platform.python_version()}; recipe {name}; "
        f"{'processor time' if device.type == 'cpu' else 'time'}\n"
    )
    print(as_markdown(rows))


if __name__ == "__main__":
    main()
