"""Timing models on the card that is here: each one's first cell, in a fresh process each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Literal

from bench.card.detect import wanted_card
from bench.measure.isolate import Runner, run_trial
from bench.measure.jobs import TrialJob
from bench.measure.warm_up import WarmUp
from bench.models.compared_models import Comparison
from bench.models.model_figures import short_title
from bench.trials.digests import measurement_digest
from bench.trials.trial import Conditions, Trial
from distill.base.console import say
from distill.base.progress import Progress
from distill.spec.candidate import Candidate, ModelSpec
from distill.spec.pins import pins_for


@dataclass(frozen=True, kw_only=True)
class TimingDevice:
    """Where models are timed: `kind` is PyTorch's word for it."""

    name: str
    kind: Literal["cuda", "cpu"]
    driver: str | None = None


@dataclass(frozen=True, kw_only=True)
class TimedModel:
    """Images a second, from the median update, and the reserved peak where there is one."""

    images_per_second: float
    reserved_bytes: int | None


def card_asked(device: Literal["predict", "cuda"]) -> TimingDevice | None:
    """The card to time on, `None` where nothing is timed. Raises `NoDeviceError` for none here."""
    card = wanted_card(device)
    return None if card is None else TimingDevice(name=card.name, kind="cuda", driver=card.driver)


def time_models(
    plan: Comparison, device: TimingDevice, runner: Runner | None = None
) -> Mapping[ModelSpec, TimedModel]:
    """The measured speed of each model's first cell; of one that failed it is said why."""
    cells = [cell for cells in plan.models for cell in cells if plan.is_first(cell)]
    found = {}
    with Progress(f"timing on {device.name}", len(cells), "models") as progress:
        for cell in cells:
            trial = _timed(plan, cell, device, runner)
            speed = trial.images_per_second
            if trial.outcome == "ok" and speed is not None and trial.reading is not None:
                found[cell.student] = TimedModel(
                    images_per_second=speed, reserved_bytes=trial.reading.reserved_bytes
                )
            else:
                why = trial.error or trial.outcome
                say(f"  {short_title(cell.student)} was not timed: {why}")
            progress.advance()
    return found


def _timed(plan: Comparison, cell: Candidate, device: TimingDevice, runner: Runner | None) -> Trial:
    on_card = device.kind == "cuda"
    job = TrialJob(
        # fused is of CUDA alone
        candidate=cell if on_card else replace(cell, implementation="foreach"),
        pins=pins_for(
            cell.precision,
            plan.target.compute_capability,
            deterministic=cell.deterministic,
            allocator=plan.allocator,
        ),
        device=device.kind,
        cap_bytes=None,
        warm_up=WarmUp() if on_card else WarmUp(at_least=1),
        timed_steps=12 if on_card else 3,
    )
    conditions = Conditions(
        card=device.name,
        driver=device.driver,
        cap_bytes=None,
        torch=version("torch"),
        timm=version("timm"),
        code=measurement_digest(),
    )
    return run_trial(job, conditions, runner=runner)
