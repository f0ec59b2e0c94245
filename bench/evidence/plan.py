"""The plan of `bench evidence`: its configurations, most valuable first. Pure.

Every recorded cell is two updates and an evaluation, so that prediction and recording go through
the same phases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.card.cards import FLASH_FROM
from bench.predict.question import Question, candidate_for
from bench.probe.calibrate import small_update
from distill.spec.candidate import Allocator, Candidate, Precision, StageName
from distill.spec.profile import Choice
from distill.spec.recipe import Recipe

WRITE_UP_BATCHES: dict[StageName, int] = {"teacher": 8, "assistant": 16, "student": 32}
"""The original write-up's batch sizes: fp16, checkpointing always on, foreach AdamW."""


ROUNDS = 2
"""How often the profile's configuration and its rivals are timed."""

OWN = "the profile's"
"""What the profile's own configuration is called among those that are timed."""

SMALL = "one small image"
"""What is timed to tell what a launch costs (`bench/probe/calibrate.py`)."""


CONVOLUTIONAL = (
    *("resnet18", "resnet34", "resnet50", "mobilenetv3_large_100"),
    *("efficientnet_b0", "convnext_tiny"),
)
HALF_AND_FULL: tuple[Precision, ...] = ("fp32", "fp16")


@dataclass(frozen=True)
class Cell:
    """A candidate to be recorded under an allocator."""

    candidate: Candidate
    allocator: Allocator = "expandable"


@dataclass(frozen=True)
class Contestant:
    """A candidate to be timed in so many rounds: `by` this project's step or the plainest loop."""

    name: str
    candidate: Candidate
    by: Literal["step", "plain loop"] = "step"
    rounds: int = 1


@dataclass(frozen=True)
class Plan:
    """Cells to record with their history, cells to record for their peaks, and rivals to time."""

    golden: tuple[Cell, ...]
    cells: tuple[Cell, ...]
    contestants: tuple[Contestant, ...]

    def timings(self) -> tuple[tuple[int, Contestant], ...]:
        """Round by round, who is timed: what the machine does in one of them hits them all."""
        rounds = max((contestant.rounds for contestant in self.contestants), default=0)
        return tuple(
            (number, contestant)
            for number in range(rounds)
            for contestant in self.contestants
            if number < contestant.rounds
        )


def plan(recipe: Recipe, choices: Sequence[Choice]) -> Plan:
    """The whole plan for a card; `choices` are the profile's."""
    golden = (
        *(Cell(recordable(choice.candidate)) for choice in choices),
        _cell(recipe, "teacher", 8, "fp32"),
        _cell(recipe, "teacher", 16, "fp16", checkpointing=1),
        _cell(recipe, "student", 32, "bf16"),
        _cell(recipe, "assistant", 32, "fp16", allocator="native"),
        _cell(recipe, "student", 16, "fp32", checkpointing=2),
        _cell(recipe, "teacher", 32, "fp16", model="resnet50"),
        _cell(recipe, "teacher", 16, "fp32", model="resnet18", allocator="native"),
        *_claimed_cells(recipe),
        _cell(recipe, "teacher", 1, "fp16"),
        _cell(recipe, "student", 1, "bf16"),
        *_convolutions(recipe),
    )
    return Plan(
        golden=tuple(dict.fromkeys(golden)),
        cells=tuple(cell for cell in _grid(recipe) if cell not in golden),
        contestants=_contestants(choices),
    )


def small_plan(recipe: Recipe) -> Plan:
    """A little of everything, for a CPU: full precision, few images, one stage."""
    candidate = replace(recordable(recipe.candidate("student", micro_batch=8)), accumulation=1)
    choice = replace(candidate, implementation="foreach")
    return Plan(
        golden=(Cell(replace(candidate, implementation="fused")),),
        cells=(Cell(replace(candidate, implementation="fused"), "native"),),
        contestants=(
            Contestant(OWN, choice),
            Contestant("the plainest loop", choice, "plain loop"),
        ),
    )


def recordable(candidate: Candidate) -> Candidate:
    """The candidate with at most one further micro-batch an update, and only full ones."""
    return replace(candidate, images_per_epoch=None, accumulation=min(2, candidate.accumulation))


def _claimed_cells(recipe: Recipe) -> list[Cell]:
    """The configurations that the write-up's figures are of: stage, its batch, foreach AdamW."""
    cells = [
        _cell(recipe, stage, batch, "fp16", checkpointing=1)
        for stage, batch in WRITE_UP_BATCHES.items()
    ]
    return [
        replace(cell, candidate=replace(cell.candidate, implementation="foreach", clip_norm=False))
        for cell in cells
    ]


def _convolutions(recipe: Recipe) -> list[Cell]:
    """Nets whose workspaces are cuDNN's choice."""
    return [
        _cell(recipe, "teacher", 16, precision, model=model)
        for model in CONVOLUTIONAL
        for precision in HALF_AND_FULL
    ]


def _grid(recipe: Recipe) -> list[Cell]:
    """Stage × precision × checkpointing × batch, ResNets, and the native allocator."""
    shapes: tuple[tuple[Precision, int, int], ...] = (
        ("fp16", 0, 32),
        ("fp16", 1, 32),
        ("fp32", 0, 16),
        ("fp32", 1, 16),
        ("bf16", 0, 48),
        ("fp16", 0, 7),
    )
    cells = [
        _cell(recipe, stage.name, batch, precision, checkpointing=checkpointing)
        for precision, checkpointing, batch in shapes
        for stage in recipe.stage
    ]
    for model in ("resnet18", "resnet50"):
        cells.append(_cell(recipe, "teacher", 32, "fp32", model=model))
        cells.append(_cell(recipe, "teacher", 32, "bf16", model=model))
    return cells + [_cell(recipe, s.name, 24, "fp16", allocator="native") for s in recipe.stage]


def _cell(
    recipe: Recipe,
    stage: StageName,
    batch: int,
    precision: Precision,
    *,
    checkpointing: int = 0,
    model: str | None = None,
    allocator: Allocator = "expandable",
) -> Cell:
    question = Question(
        stage=stage,
        batch_size=batch,
        precision=precision,
        checkpointing=checkpointing,
        model=model,
    )
    return Cell(recordable(candidate_for(recipe, question)), allocator)


def _contestants(choices: Sequence[Choice]) -> tuple[Contestant, ...]:
    """The profile's choices against two rivals, twice; what tells the constants of the machine, and
    the choices with one thing changed, once.
    """
    chosen = [replace(choice.candidate, images_per_epoch=None) for choice in choices]
    found = []
    for candidate in chosen:
        found.append(Contestant(OWN, candidate, rounds=ROUNDS))
        found.append(Contestant("the write-up's", _write_up(candidate), rounds=ROUNDS))
        found.append(Contestant("the plainest loop", candidate, "plain loop", rounds=ROUNDS))
    found.append(Contestant(SMALL, small_update(FLASH_FROM)))
    for candidate in chosen:
        half: Precision = "fp16" if candidate.precision == "fp32" else candidate.precision
        pairs: tuple[tuple[str, Candidate], ...] = (
            ("without AMP", replace(candidate, precision="fp32")),
            ("with AMP", replace(candidate, precision=half)),
            ("without checkpointing", replace(candidate, checkpointing=0)),
            ("with checkpointing", replace(candidate, checkpointing=1)),
        )
        found += [Contestant(name, other) for name, other in pairs if other != candidate]
    return tuple(found)


def _write_up(candidate: Candidate) -> Candidate:
    return replace(
        candidate,
        micro_batch=WRITE_UP_BATCHES[candidate.stage],
        accumulation=1,
        precision="fp16",
        checkpointing=1,
        implementation="foreach",
        clip_norm=False,
    )
