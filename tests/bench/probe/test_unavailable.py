"""Cells that a model or a kernel refuses: kept with the reason, and a profile made of the rest."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.card.targets import target_named
from bench.probe.choose import choose, verdict
from bench.probe.grid_tables import reasons_against, stage_matrix
from bench.probe.predict_grid import predict_grid
from bench.probe.probe_plan import ProbePlan, plan_probe
from bench.simulate import families
from bench.simulate.families import FamilyJob, predict_family
from bench.simulate.prediction import Prediction, Unavailable
from bench.trials.journal import Journal
from bench.trials.trial import Trial
from distill.base.errors import UserError
from distill.base.units import MIB
from distill.spec.candidate import Candidate, InputSpec, ModelSpec
from distill.spec.recipe import load_recipe

Work = Callable[[FamilyJob], list[Prediction | Unavailable]]


def job_of(model: str, size: int, **changes: int) -> FamilyJob:
    """Three micro-batches of a family of which nothing larger fits."""
    candidate = Candidate(
        stage="teacher",
        student=ModelSpec(name=model, classes=4, image_size=size),
        teacher=None,
        input=InputSpec(source_size=size),
        micro_batch=1,
        precision="fp32",
        **changes,
    )
    return FamilyJob(
        cells=tuple(candidate.with_batch(batch, 8) for batch in (1, 2, 4)),
        effective_batch=8,
        target=target_named("rtx4050"),
        allocator="expandable",
        limit_bytes=MIB,
    )


def test_a_family_that_can_not_be_checkpointed_says_why_of_every_cell() -> None:
    answers = predict_family(job_of("regnety_002", 32, checkpointing=1))
    assert [answer.candidate.micro_batch for answer in answers] == [1, 2, 4]
    for answer in answers:
        assert isinstance(answer, Unavailable)
        assert "timm's own checkpointing counts its batch norms twice" in answer.words


@pytest.mark.slow
def test_of_a_family_that_takes_no_image_alone_the_other_cells_are_predicted() -> None:
    alone, *others = predict_family(job_of("resnet10t", 32))
    assert isinstance(alone, Unavailable) and alone.candidate.micro_batch == 1
    assert "more than 1 value per channel" in alone.words
    assert all(isinstance(answer, Prediction) for answer in others)


@pytest.fixture
def plan(recipe_file: Path, tmp_path: Path) -> ProbePlan:
    """The teacher of the small recipe in fp32, with and without checkpointing."""
    whole = plan_probe(
        recipe=load_recipe(str(recipe_file)),
        vram_gib=6,
        target=target_named("rtx4050"),
        card=None,
        allocator="expandable",
        device="predict",
        name="small",
        journal=tmp_path / "trials.jsonl",
    )
    wanted = [c for c in whole.families if (c.stage, c.precision) == ("teacher", "fp32")]
    return replace(whole, families=tuple(wanted))


def refusing(monkeypatch: pytest.MonkeyPatch, refuses: Callable[[Candidate], bool]) -> None:
    """Predict in this process, and refuse some families as a model would."""

    def predict(jobs: Sequence[FamilyJob], work: Work) -> Iterator[list[Prediction | Unavailable]]:
        for job in jobs:
            refused = [Unavailable(cell, "It has no list of blocks.") for cell in job.cells]
            yield refused if refuses(job.cells[0]) else work(job)

    monkeypatch.setattr(families, "predict_families", predict)


def seen(trials: Sequence[Trial]) -> list[tuple[str, int, str]]:
    return [(t.candidate.label, t.candidate.micro_batch, t.outcome) for t in trials]


@pytest.mark.slow
def test_the_rest_is_chosen_from_and_nothing_is_done_again(
    plan: ProbePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, lambda cell: cell.checkpointing != 0)
    trials = predict_grid(plan, Journal(plan.journal))
    refused = [trial for trial in trials if trial.candidate.checkpointing]
    assert {trial.outcome for trial in refused} == {"skipped"}
    judged = verdict(refused[0], plan.budget, 64)
    assert (judged.words, judged.eligible) == ("It has no list of blocks.", False)
    chosen = choose(trials, ["teacher"], plan.budget, plan.effective_batches)
    assert chosen["teacher"].candidate.label == "fp32"
    assert reasons_against(trials) == ["– fp32+cheap, fp32+ckpt: It has no list of blocks."]
    assert "none" in stage_matrix(trials, plan.budget)
    refusing(monkeypatch, lambda cell: pytest.fail(f"{cell} is in the journal"))
    assert sorted(seen(predict_grid(plan, Journal(plan.journal)))) == sorted(seen(trials))


def test_a_stage_of_which_nothing_can_be_is_refused_with_the_reason(
    plan: ProbePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, lambda cell: True)
    with pytest.raises(UserError, match="Stage teacher: It has no list of blocks"):
        predict_grid(plan, Journal(plan.journal))
