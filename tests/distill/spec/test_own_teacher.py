"""A teacher of the user's own: which files say which model it is, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from distill.base.errors import UserError
from distill.spec.own_teacher import OwnTeacher, asked_teacher, find_teacher
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe, with_own_teacher
from tests.conftest import RECIPE, ROOT

RUN = ROOT / "tests" / "old_files" / "run"
BEST = RUN / "teacher" / "checkpoints" / "best_acc_10.06.safetensors"
DIGITS = {"classes": 10, "channels": 1, "image_size": 8}
EXPORT = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 10,
    "model_args": {
        "img_size": 8,
        "patch_size": 2,
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "in_chans": 1,
    },
    "pretrained_cfg": {"mean": [0.13], "std": [0.31], "input_size": [1, 8, 8]},
}


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(str(recipe_file))


def export(folder: Path, **changes: object) -> Path:
    """A folder as timm exports it."""
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(BEST.read_bytes())
    (folder / "config.json").write_text(json.dumps(EXPORT | changes))
    return folder


@pytest.mark.parametrize("path", [RUN / "teacher", BEST, BEST.with_suffix(".pth")])
def test_a_stage_of_a_run_says_which_model_it_trained(path: Path) -> None:
    found = find_teacher(OwnTeacher(weights=str(path)), **DIGITS)
    assert found.weights == BEST
    assert (found.spec.depth, found.spec.width, found.spec.mean) == (2, 32, None)
    assert found.classes == tuple("0123456789")


def test_an_export_of_timm_says_its_model_and_its_normalisation(tmp_path: Path) -> None:
    folder = export(tmp_path / "export")
    for path in (folder, folder / "model.safetensors"):
        found = find_teacher(OwnTeacher(weights=str(path)), **DIGITS)
        assert found.spec.title == "vit_tiny_patch16_224 (2 patch, 2 deep, 32 wide)"
        assert (found.spec.mean, found.spec.std) == ((0.13,), (0.31,))


def test_the_labels_of_an_export_are_the_names_of_its_classes(tmp_path: Path) -> None:
    state = {"head.bias": torch.zeros(10)}
    folder = export(tmp_path / "export", label_names=list("abcdefghij"))
    save_file(state, folder / "model.safetensors")
    assert find_teacher(OwnTeacher(weights=str(folder)), **DIGITS).classes == tuple("abcdefghij")


def test_a_file_alone_is_the_model_that_is_named(tmp_path: Path) -> None:
    save_file({"head.bias": torch.zeros(10)}, tmp_path / "mine.safetensors")
    own = OwnTeacher(weights=str(tmp_path / "mine.safetensors"), name="resnet18")
    found = find_teacher(own, **DIGITS)
    assert (found.spec.name, found.spec.classes, found.classes) == ("resnet18", 10, None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_classes": 7}, "tells 7 classes apart, the data has 10"),
        ({"model_args": EXPORT["model_args"] | {"in_chans": 3}}, "of 3 channel.s., the data has 1"),
        ({"model_args": EXPORT["model_args"] | {"img_size": 16}}, "of 16 px, the recipe makes"),
        ({"model_args": {"global_pool": "avg"}}, "with global_pool, which is not understood"),
        ({"model_args": {"depth": "two"}}, "does not describe a model: depth"),
        ({"architecture": None}, "not as timm exports it: architecture"),
        ({"num_classes": 10**400}, "."),
        (
            {"model_args": EXPORT["model_args"] | {"depth": 10**6}},
            "does not describe a model: depth",
        ),
        (
            {"model_args": EXPORT["model_args"] | {"img_size": [8, 16]}},
            "describe a model: image_size",
        ),
        ({"model_args": EXPORT["model_args"] | {"img_size": []}}, "describe a model: image_size"),
        ({"pretrained_cfg": {"mean": [], "std": []}}, "one of mean and std, or an empty one"),
        ({"pretrained_cfg": {"mean": [0.5]}}, "one of mean and std, or an empty one"),
        ({"pretrained_cfg": {"mean": [0.5], "std": [0]}}, "does not describe a model: std"),
        ({"pretrained_cfg": {"mean": 0.5, "std": 0.5}}, "does not describe a model: mean"),
        ({"label_names": 5}, "not as timm exports it: label_names"),
    ],
)
def test_an_export_that_can_not_teach_these_images_is_one_sentence(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    folder = export(tmp_path / "export", **changes)
    with pytest.raises(UserError, match=sentence):
        find_teacher(OwnTeacher(weights=str(folder)), **DIGITS)


def test_what_is_no_teacher_is_one_sentence(tmp_path: Path) -> None:
    empty, torn = tmp_path / "empty", tmp_path / "torn.safetensors"
    empty.mkdir()
    torn.write_bytes(BEST.read_bytes()[:100])
    alone = tmp_path / "alone.safetensors"
    save_file({"head.bias": torch.zeros(10)}, alone)
    (tmp_path / "old.pth").write_bytes(b"")
    for path, sentence in {
        tmp_path / "none": "There is no teacher",
        empty: "holds no teacher",
        torn: "no whole safetensors file",
        alone: "Name the model: --teacher-model",
        tmp_path / "old.pth": "not a .safetensors file",
        RUN: "is a whole run. Name one of its finished stages: .*assistant, .*teacher",
        RUN / "student": "is not finished",
    }.items():
        with pytest.raises(UserError, match=sentence):
            find_teacher(OwnTeacher(weights=str(path)), **DIGITS)
    with pytest.raises(UserError, match="is vit_tiny_patch16_224, not resnet18"):
        find_teacher(OwnTeacher(weights=str(BEST), name="resnet18"), **DIGITS)
    with pytest.raises(UserError, match="needs the weights"):
        asked_teacher(None, "resnet18", "all")
    for words in ("", "student="):
        with pytest.raises(UserError, match="names no file"):
            asked_teacher(words, None, "all")


def test_a_stage_that_was_tampered_with_is_one_sentence(tmp_path: Path) -> None:
    stage = shutil.copytree(RUN / "teacher", tmp_path / "teacher")
    config = next(stage.glob("logs/*_config.json"))
    whole = {path: path.read_text() for path in (config, stage / "result.json")}
    for path, text, sentence in [
        (stage / "result.json", "[]", "result.json"),
        (stage / "result.json", '{"checkpoint": ["x"]}', "result.json"),
        (config, "[1]", "does not say which model"),
        (config, '{"candidate": {"student": 3}}', "does not describe a model"),
        (config, '{"candidate": []}', "does not say which model"),
        (config, "{" * 5000, "is not JSON|nested"),
    ]:
        for other, content in whole.items():
            other.write_text(content)
        path.write_text(text)
        with pytest.raises(UserError, match=sentence):
            find_teacher(OwnTeacher(weights=str(stage)), **DIGITS)


def test_what_is_said_in_a_file_of_weights_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    for said in ("[" * 5000, "5", '{"a": 1}', "NaN"):
        save_file({"head.bias": torch.zeros(10)}, path, {"classes": said})
        own = OwnTeacher(weights=str(path), name="resnet18")
        try:
            assert find_teacher(own, **DIGITS).classes is None
        except UserError as error:
            assert "no whole safetensors file" in str(error)
    with pytest.raises(UserError, match="can't be a path"):
        find_teacher(OwnTeacher(weights="a\0b"), **DIGITS)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="There is no teacher"):
        find_teacher(OwnTeacher(weights=str(tmp_path / "loop")), **DIGITS)


def test_in_a_chain_it_takes_the_place_of_the_first_stage(recipe: Recipe) -> None:
    changed = changed_recipe(recipe, RecipeChanges(teacher=asked_teacher(str(BEST), None, "all")))
    assert [stage.name for stage in changed.stage] == ["assistant", "student"]
    assert changed.stage[0].taught_by is None
    assert changed.candidate("assistant").teacher == recipe.candidate("assistant").teacher
    assert changed.candidate("student") == recipe.candidate("student")


@pytest.mark.parametrize("words", [(f"student={BEST}", "all"), (str(BEST), "student")])
def test_it_teaches_the_stage_that_is_named(recipe: Recipe, words: tuple[str, str]) -> None:
    changed = changed_recipe(recipe, RecipeChanges(teacher=asked_teacher(words[0], None, words[1])))
    assert [stage.taught_by for stage in changed.stage] == [None, "teacher", None]
    teacher = changed.candidate("student").teacher
    assert teacher is not None and teacher.width == 32


def test_a_recipe_names_it_too_but_not_beside_a_stage(tmp_path: Path) -> None:
    line = f'own_teacher = {{ weights = "{BEST}" }}'
    path = tmp_path / "own.toml"
    path.write_text(RECIPE.replace('taught_by = "assistant"', line))
    own = load_recipe(str(path)).own_teacher_of("student")
    assert own is not None and own.weights == BEST
    path.write_text(RECIPE + line + "\n")
    with pytest.raises(UserError, match="taught by assistant and has its own_teacher"):
        load_recipe(str(path))


def test_a_profile_for_a_teacher_holds_wherever_its_file_lies(
    recipe: Recipe, tmp_path: Path
) -> None:
    moved = export(tmp_path / "moved")
    here, there = (
        with_own_teacher(recipe, asked_teacher(f"student={place}", None, "all"))
        for place in (export(tmp_path / "export"), moved)
    )
    assert here.digest() == there.digest() != recipe.digest()


def test_a_recipe_without_one_keeps_the_hash_that_its_profiles_know(recipe: Recipe) -> None:
    assert "own_teacher" not in recipe.model_dump_json()
