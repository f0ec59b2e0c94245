"""Batch norm of one value: the last image of an epoch alone, or all that memory leaves room for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from distill.base.errors import RunFailed, UserError
from distill.base.signals import StopRequest
from distill.run.chain import run_chain
from distill.run.request import RunRequest
from distill.spec.own_work import OwnWork
from distill.spec.recipe import load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe
from distill.spec.stage_plan import Overrides
from distill.step.step import Step

Request = Callable[..., RunRequest]


@pytest.fixture
def request_for(tmp_path: Path, recipe_file: Path) -> Request:
    """ResNet-18 at 32 px, whose last norm sees one pixel an image, on 20 images to train on."""
    for label, colour in {"a": 60, "b": 180}.items():
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(15):
            noise = np.random.default_rng(number).integers(0, 60, (32, 32, 3)) + colour
            path = tmp_path / "images" / label / f"{number}.png"
            Image.fromarray(noise.astype(np.uint8)).save(path)

    def make(effective_batch: int, batch_size: int | None = None) -> RunRequest:
        text = recipe_file.read_text().partition("[augmentation]")[0]
        text = text.replace("image_size = 8", "image_size = 32").replace("= 64", "= 16")
        text = text.replace("effective_batch = 16", f"effective_batch = {effective_batch}")
        text += '[[stage]]\nname = "teacher"\nmodel = { name = "resnet18" }\n'
        recipe_file.write_text(text)
        changes = RecipeChanges(work=OwnWork(dataset=f"folder:{tmp_path / 'images'}"), epochs=1)
        return RunRequest(
            recipe=changed_recipe(load_recipe(str(recipe_file)), changes),
            profile=None,
            overrides=Overrides(batch_size=batch_size),
            stage="all",
            out=tmp_path / "out",
            data_dir=tmp_path / "data",
            device=torch.device("cpu"),
        )

    return make


@pytest.mark.slow
def test_an_image_left_for_the_last_update_alone_is_left_out_and_that_is_said(
    request_for: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    (result,) = run_chain(request_for(effective_batch=19), StopRequest())
    assert result.epochs == 1
    assert "1 image of 20 left out of each epoch, others each time" in capsys.readouterr().err


@pytest.mark.slow
def test_an_image_left_for_the_last_micro_batch_alone_joins_another(
    request_for: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty images in micro-batches of nineteen."""
    (result,) = run_chain(request_for(effective_batch=20, batch_size=19), StopRequest())
    assert result.epochs == 1
    assert "left out" not in capsys.readouterr().err


def failing_above(images: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory ends in every training forward of more images; the sizes of all are noted."""
    train, sizes = Step.train, []

    def before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if module.training:
            sizes.append(len(inputs[0]))
            if len(inputs[0]) > images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def hooked(self: Step, *arguments: object) -> object:
        handle = self.student.register_forward_pre_hook(before)
        try:
            return train(self, *arguments)
        finally:
            handle.remove()

    monkeypatch.setattr(Step, "train", hooked)
    return sizes


@pytest.mark.slow
def test_when_memory_ends_a_batch_is_cut_to_two_and_not_to_one(
    request_for: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = failing_above(2, monkeypatch)
    (result,) = run_chain(request_for(effective_batch=19), StopRequest())
    assert result.epochs == 1
    assert min(sizes) == 2


def test_where_two_images_do_not_fit_the_run_ends_with_the_reason(
    request_for: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_above(1, monkeypatch)
    monkeypatch.setattr(
        "distill.run.stage_step.out_of_memory_advice", lambda *_: "What would help."
    )
    with pytest.raises(RunFailed, match="with 2 images at a time, the fewest that batch norm tak"):
        run_chain(request_for(effective_batch=19), StopRequest())


def test_one_image_at_a_time_is_refused_before_the_folder_is_touched(request_for: Request) -> None:
    request = request_for(effective_batch=19, batch_size=1)
    with pytest.raises(UserError, match="batch norm in resnet18 takes no image alone. Choose --b"):
        run_chain(request, StopRequest())
    assert not (request.folder / "run.json").exists()


def test_images_that_a_model_can_not_take_are_refused_before_the_folder_is_touched(
    request_for: Request,
) -> None:
    request = request_for(effective_batch=19)
    vgg = request.recipe.stage[0].model.model_copy(update={"name": "vgg11"})
    small = request.recipe.model_copy(
        update={
            "image_size": 16,
            "stage": (request.recipe.stage[0].model_copy(update={"model": vgg}),),
        }
    )
    with pytest.raises(UserError, match="vgg11 can't take images of 16 px"):
        run_chain(replace(request, recipe=small), StopRequest())
    assert not (request.folder / "run.json").exists()
