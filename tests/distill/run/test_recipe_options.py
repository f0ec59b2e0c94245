"""A run with every option of a recipe at once: it goes on to the bit, and says what it can't do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.base.errors import Interrupted, UserError
from distill.base.signals import StopRequest
from distill.run.chain import run_chain
from distill.run.request import RunRequest
from distill.spec.recipe import load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe
from distill.spec.stage_plan import Overrides
from distill.step.step import Step

EVERYTHING = RecipeChanges(
    label_smoothing=0.1,
    layer_decay=0.75,
    patch_drop_rate=0.5,
    mixup=0.8,
    cutmix=1.0,
    loss="logit_std",
    epochs=1,
)

Request = Callable[..., RunRequest]


@pytest.fixture
def request_for(recipe_file: Path, tmp_path: Path) -> Request:
    def make(out: str, changes: RecipeChanges = EVERYTHING, batch_size: int = 32) -> RunRequest:
        text = recipe_file.read_text().replace("effective_batch = 64", "effective_batch = 320")
        recipe_file.write_text(text.partition('[[stage]]\nname = "student"')[0])
        return RunRequest(
            recipe=changed_recipe(load_recipe(str(recipe_file)), changes),
            profile=None,
            overrides=Overrides(batch_size=batch_size),
            stage="all",
            out=tmp_path / out,
            data_dir=tmp_path / "data",
            device=torch.device("cpu"),
        )

    return make


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_bits_of_one_that_was_not(
    request_for: Request, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def weights(request: RunRequest) -> dict[str, torch.Tensor]:
        (best,) = (request.folder / "assistant" / "checkpoints").glob("best_*.safetensors")
        return load_file(best)

    whole = request_for("whole")
    run_chain(whole, StopRequest())
    assert "Training scores hold a mixed image against its own label" in capsys.readouterr().err
    interrupted, stop, updates = request_for("interrupted"), StopRequest(), []
    train = Step.train

    def stopping(step: Step, *given, **more):
        updates.append(step)
        if len(updates) == 6:  # of four a stage: in the middle of the assistant's epoch
            stop.number = 15
        return train(step, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "train", stopping)
        with pytest.raises(Interrupted):
            run_chain(interrupted, stop)
    run_chain(interrupted, StopRequest())
    one, other = weights(whole), weights(interrupted)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_mixing_needs_two_images_at_a_time(request_for: Request) -> None:
    with pytest.raises(UserError, match="mixing takes no image alone. Choose --batch-size 2"):
        run_chain(request_for("out", batch_size=1), StopRequest())


def test_cached_logits_know_nothing_of_mixed_images(request_for: Request) -> None:
    asked = RecipeChanges(mixup=0.2, teacher_mode="cached")
    with pytest.raises(UserError, match="which cached logits do not know. Leave them out"):
        request_for("out", asked).recipe.candidate("assistant")
