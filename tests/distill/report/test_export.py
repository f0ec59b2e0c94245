"""An exported model tells timm its shape, the names of its classes, and how images are prepared."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from distill.base.signals import StopRequest
from distill.data.images import read_image
from distill.report.export import export_stage
from distill.report.found_run import FoundRun, find_run
from distill.run.chain import run_chain
from distill.run.request import RunRequest
from distill.spec.own_work import OwnWork
from distill.spec.recipe import load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe
from distill.spec.stage_plan import Overrides
from tests.conftest import RECIPE


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes 1 to 12: in the order of names, the second is "10"."""
    root = tmp_path_factory.mktemp("numbered") / "images"
    for label in range(1, 13):
        (root / str(label)).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(100 * label + number).integers(0, 256, (20, 20, 3))
            Image.fromarray(noise.astype(np.uint8)).save(root / str(label) / f"{number}.png")
    return root


def trained(root: Path, model: str = "vit_tiny_patch16_224", size: int = 16) -> FoundRun:
    """A teacher after one epoch on the images."""
    recipe_file = root.parent / "small.toml"
    text = RECIPE.partition('[[stage]]\nname = "assistant"')[0]
    recipe_file.write_text(text.replace("image_size = 8", f"image_size = {size}"))
    recipe = load_recipe(str(recipe_file))
    changes = RecipeChanges(work=OwnWork(dataset=f"folder:{root}"), epochs=1)
    recipe = changed_recipe(recipe, changes)
    if model != "vit_tiny_patch16_224":
        stage = recipe.stage[0].model_copy(
            update={"model": type(recipe.stage[0].model)(name=model)}
        )
        recipe = recipe.model_copy(update={"stage": (stage,)})
    request = RunRequest(
        recipe=recipe,
        profile=None,
        overrides=Overrides(),
        stage="teacher",
        out=root.parent / "out" / model,
        data_dir=root.parent / "data",
        device=torch.device("cpu"),
    )
    run_chain(request, StopRequest())
    return find_run(request.folder)


def test_the_classes_have_their_names_and_images_are_read_as_in_training(
    numbered: Path, tmp_path: Path
) -> None:
    run = trained(numbered)
    images = numbered.rename(tmp_path / "elsewhere")  # an export asks for no image
    export_stage(run, "teacher", tmp_path / "export")
    images.rename(numbered)
    model = timm.create_model(f"local-dir:{tmp_path / 'export'}", pretrained=True)
    assert model.pretrained_cfg["label_names"] == sorted(str(label) for label in range(1, 13))
    config = timm.data.resolve_data_config(model.pretrained_cfg)
    path = numbered / "10" / "0.png"
    theirs = timm.data.create_transform(**config, is_training=False)(Image.open(path))
    ours = torch.from_numpy(read_image(path, 16).pixels.copy()).float() / 255
    assert torch.allclose(theirs, (ours - 0.5) / 0.5, atol=1e-6)
    steps = json.loads((tmp_path / "export" / "config.json").read_text())["preprocessing"]
    assert [step["step"] for step in steps] == ["fit", "scale", "normalize"]
    assert (steps[0]["size"], steps[-1]["mean"]) == (16, [0.5, 0.5, 0.5])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "taken"),
    [("swin_tiny_patch4_window7_224", 64, True), ("resnet18", 64, False)],
)
def test_the_size_of_the_images_is_said_to_a_constructor_that_takes_one(
    numbered: Path, tmp_path: Path, name: str, size: int, taken: bool
) -> None:
    export_stage(trained(numbered, name, size), "teacher", tmp_path / "export")
    model = timm.create_model(f"local-dir:{tmp_path / 'export'}", pretrained=True).eval()
    assert model.pretrained_cfg["input_size"] == (3, size, size)
    assert model(torch.zeros(1, 3, size, size)).shape == (1, 12)
    assert ("img_size" in (tmp_path / "export" / "config.json").read_text()) == taken
