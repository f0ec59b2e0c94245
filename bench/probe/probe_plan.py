"""The plan of a probe: families, effective batches, budget and conditions as one value.

Built once from what was asked for, then handed on as it is. Reads no device and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from bench.card.budget import assumed_budget, budget
from bench.card.detect import CardFacts
from bench.card.targets import is_native
from bench.probe.grid import cached_views, effective_batches, families
from bench.trials.digests import measurement_digest, prediction_digest
from bench.trials.trial import Conditions
from distill.spec.candidate import Allocator, Candidate, StageName
from distill.spec.pins import Pins, pins_for
from distill.spec.profile import Budget, Target
from distill.spec.recipe import Recipe

Device = Literal["cuda", "cpu", "predict"]


@dataclass(frozen=True, kw_only=True)
class ProbePlan:
    """All that a probe goes by. `card` is the device that is there, if any.

    `cap` names the cap of readings; `None` where nothing is capped. Predictions hold under
    `predicted_under`, measurements under `measured_under`. `cached_views` are those of each image,
    by stage, where a teacher may be cached.
    """

    recipe: Recipe
    target: Target
    card: CardFacts | None
    allocator: Allocator
    device: Device
    name: str
    journal: Path
    force: bool
    families: tuple[Candidate, ...]
    cached_views: Mapping[StageName, int]
    effective_batches: Mapping[StageName, int]
    budget: Budget
    cap: str | None
    predicted_under: Conditions
    measured_under: Conditions

    @property
    def caching_shares(self) -> dict[StageName, float]:
        """How many epochs' views a cached teacher sees, as a share of all epochs, by stage."""
        return {
            stage: views / self.recipe.training_of(stage).epochs
            for stage, views in self.cached_views.items()
        }

    def pins_of(self, candidate: Candidate) -> Pins:
        """What is pinned on the target when the candidate runs."""
        return pins_for(
            candidate.precision,
            self.target.compute_capability,
            deterministic=candidate.deterministic,
            allocator=self.allocator,
        )


def plan_probe(
    *,
    recipe: Recipe,
    vram_gib: float,
    target: Target,
    card: CardFacts | None,
    allocator: Allocator,
    device: Device,
    name: str,
    journal: Path,
    force: bool = False,
    variants: Sequence[Recipe] = (),
) -> ProbePlan:
    """The plan for a card of `vram_gib`. Raises `UserError` when nothing is left to train in.

    `variants` are the recipe with its teachers where they may be, if that is not as it says.
    """
    measured_on = card if device == "cuda" else None
    limit = probe_budget(vram_gib, measured_on, target)
    return ProbePlan(
        recipe=recipe,
        target=target,
        card=card,
        allocator=allocator,
        device=device,
        name=name,
        journal=journal,
        force=force,
        families=tuple(families(recipe, target, variants)),
        cached_views=cached_views(variants or [recipe]),
        effective_batches=effective_batches(recipe),
        budget=limit,
        cap=None if measured_on is None else _cap(measured_on, vram_gib),
        predicted_under=predicted_conditions(target, limit),
        measured_under=measured_conditions(measured_on, limit),
    )


def probe_budget(vram_gib: float, card: CardFacts | None, target: Target) -> Budget:
    """The limit: from the card that is measured on, if that is no larger than asked for.

    All that is in use there beside the context counts as the desktop, so that the limit is
    what is free now less the margin. A larger card imitates a smaller one, whose context and
    desktop are not the larger one's.
    """
    if card is None or not is_native(card, vram_gib):
        return assumed_budget(vram_gib, target)
    return budget(
        vram_gib,
        card_total_bytes=card.total_bytes,
        card_total_source="measured",
        context_bytes=card.context_bytes,
        context_source="measured",
        desktop_bytes=max(0, card.total_bytes - card.context_bytes - card.free_bytes),
        desktop_source="measured",
    )


def predicted_conditions(target: Target, limit: Budget) -> Conditions:
    """The card, limit, versions and source that predictions hold for."""
    return Conditions(
        card=target.name,
        driver=None,
        cap_bytes=limit.limit_bytes,
        torch=version("torch"),
        timm=version("timm"),
        code=" ".join([prediction_digest(), *_own_constants(target)]),
    )


def _own_constants(target: Target) -> list[str]:
    """What of a card's own constants its predicted times rest on."""
    own = target.calibration
    return [] if own is None else [f"{own.product_efficiency:.4g}", f"{own.launch_seconds:.4g}"]


def measured_conditions(card: CardFacts | None, limit: Budget) -> Conditions:
    """The same for readings of the card that is here, or without one of the CPU."""
    return Conditions(
        card="cpu" if card is None else card.name,
        driver=None if card is None else card.driver,
        cap_bytes=None if card is None else limit.limit_bytes,
        torch=version("torch"),
        timm=version("timm"),
        code=measurement_digest(),
    )


def _cap(card: CardFacts, vram_gib: float) -> str:
    return "native" if is_native(card, vram_gib) else f"enforced on {card.name}"
