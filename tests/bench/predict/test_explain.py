"""What would help most: proposals, ranked by what they are predicted to give."""

from dataclasses import replace

from bench.predict.explain import gains, proposals
from distill.base.errors import UserError


def words(candidate) -> list[str]:
    return [proposal.words for proposal in proposals(candidate)]


def test_every_axis_that_is_left_is_proposed(family) -> None:
    plain = replace(family.with_batch(32, 128), precision="fp32", implementation="foreach")
    assert words(plain) == [
        "run again what is cheap",
        "checkpoint every 2nd block",
        "checkpoint every block",
        "bf16 instead of fp32",
        "16 images at a time, 8 times an update",
        "fused optimizer",
        "SGD instead of AdamW (learns otherwise)",
    ]


def test_what_is_done_already_is_not_proposed(family) -> None:
    done = replace(family.with_batch(1, 128), checkpointing=1, precision="bf16", optimizer="sgd")
    assert words(done) == []


def test_the_update_keeps_its_images(family) -> None:
    candidate = family.with_batch(32, 128)
    for batch, accumulation, parts in ((32, 4, (16, 8)), (37, 1, (1, 37)), (15, 2, (6, 5))):
        candidate = replace(candidate, micro_batch=batch, accumulation=accumulation)
        halved = next(p for p in proposals(candidate) if "at a time" in p.words).candidate
        assert (halved.micro_batch, halved.accumulation) == parts


def test_what_saves_is_ranked_by_how_much_and_what_does_not_is_left_out(family) -> None:
    def predict(candidate) -> tuple[int, float]:
        saved = 15 * candidate.checkpointing_order + 5 * (candidate.optimizer == "sgd")
        return 100 - saved, 50.0 - candidate.checkpointing_order

    found = gains(family.with_batch(32, 128), predict)
    assert [gain.images_per_second for gain in found] == [46, 48, 49, 50]
    assert [gain.saved_bytes for gain in found] == [60, 30, 15, 5]
    assert found[0].proposal.words == "checkpoint every 2nd block"


def test_what_the_model_refuses_is_no_proposal(family) -> None:
    def predict(candidate) -> tuple[int, float]:
        if candidate.micro_batch == 16:
            raise UserError("batch norm wants more")
        return 100 - candidate.checkpointing_order, 1.0

    found = gains(family.with_batch(32, 128), predict)
    assert [gain.saved_bytes for gain in found] == [4, 2, 1]
