"""Who may go on in a run's folder, and what starting over deletes of it."""

import json
from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.run.claim import FolderClaim, stages_started_over
from distill.spec.candidate import STAGES, StageName
from distill.spec.own_work import OwnWork
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe

DATA = {"classes": 10, "train images": 1259, "digest": "0123456789abcdef"}


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(str(recipe_file))


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> Path:
    """A run with teacher and assistant finished and the student begun."""
    folder = tmp_path / "results" / "digits"
    FolderClaim(folder=folder, recipe=recipe).take(DATA, 2)
    for stage in ("teacher", "assistant"):
        (folder / stage).mkdir()
        (folder / stage / "result.json").write_text("{}")
    (folder / "student" / "checkpoints").mkdir(parents=True)
    (folder / "student" / "checkpoints" / "latest.pth").write_bytes(b"half of the way")
    return folder


def slower(recipe: Recipe) -> Recipe:
    """The same recipe with another learning rate."""
    training = recipe.training.model_copy(update={"learning_rate": 1e-5})
    return recipe.model_copy(update={"training": training})


def stages_in(run: Path) -> set[str]:
    return {folder.name for folder in run.iterdir() if folder.is_dir()}


def test_the_same_recipe_and_data_go_on(run: Path, recipe: Recipe) -> None:
    before = (run / "run.json").read_bytes()
    claim = FolderClaim(folder=run, recipe=recipe)
    claim.check()
    claim.check(DATA)
    claim.take(DATA, 2)
    assert stages_in(run) == set(STAGES) and (run / "run.json").read_bytes() == before


def test_another_recipe_or_other_data_are_refused_and_nothing_is_touched(
    run: Path, recipe: Recipe
) -> None:
    with pytest.raises(UserError, match=r"learning_rate 0.002 there, 1e-05 here.*or start over"):
        FolderClaim(folder=run, recipe=slower(recipe)).check()
    with pytest.raises(UserError, match=r"data.train images 1259 there, 1260 here"):
        FolderClaim(folder=run, recipe=recipe).check(DATA | {"train images": 1260})
    assert stages_in(run) == set(STAGES)


def test_a_finished_teacher_need_not_be_trained_again_for_other_values(
    run: Path, recipe: Recipe
) -> None:
    cached = changed_recipe(recipe, RecipeChanges(teacher_mode="cached"))
    with pytest.raises(UserError, match=rf"can teach: --teacher-weights {run / 'teacher'}\."):
        FolderClaim(folder=run, recipe=cached).check()
    with pytest.raises(UserError, match=r"digits there, .*start over with --fresh\.$"):
        other = RecipeChanges(work=OwnWork(dataset="cifar10"))
        FolderClaim(folder=run, recipe=changed_recipe(recipe, other)).check()
    (run / "teacher" / "result.json").unlink()
    with pytest.raises(UserError, match=r"or start over with --fresh\.$"):
        FolderClaim(folder=run, recipe=cached).check()


def test_a_folder_in_which_nothing_was_trained_is_anyones(run: Path, recipe: Recipe) -> None:
    (run / "student" / "checkpoints" / "latest.pth").unlink()
    for stage in ("teacher", "assistant"):
        (run / stage / "result.json").unlink()
    claim = FolderClaim(folder=run, recipe=slower(recipe))
    claim.check(DATA)
    claim.take(DATA, 2)
    there = json.loads((run / "run.json").read_text())
    assert there["values"]["training"]["learning_rate"] == 1e-5


@pytest.mark.parametrize(
    ("wanted", "started_over"),
    [
        ("all", STAGES),
        ("teacher", STAGES),
        ("assistant", ("assistant", "student")),
        ("student", ("student",)),
    ],
)
def test_a_stage_is_started_over_with_those_that_it_teaches(
    run: Path, recipe: Recipe, wanted: StageName, started_over: tuple[StageName, ...]
) -> None:
    found = stages_started_over(recipe, wanted)
    assert found == started_over
    claim = FolderClaim(folder=run, recipe=recipe, started_over=found)
    claim.check(DATA)
    assert stages_in(run) == set(STAGES)  # asking alone deletes nothing
    claim.take(DATA, 2)
    assert stages_in(run) == set(STAGES) - set(started_over)
    assert (run / "run.json").exists()


def test_starting_all_over_takes_another_recipe(run: Path, recipe: Recipe) -> None:
    claim = FolderClaim(folder=run, recipe=slower(recipe), started_over=STAGES)
    claim.check(DATA)
    claim.take(DATA, 2)
    assert stages_in(run) == set()


def test_only_what_a_run_writes_is_deleted(run: Path, recipe: Recipe) -> None:
    (run / "notes.txt").write_text("mine")
    (run / "curves.png").write_bytes(b"a picture of the run before")
    FolderClaim(folder=run, recipe=recipe, started_over=STAGES).take(DATA, 2)
    assert {path.name for path in run.iterdir()} == {"notes.txt", "run.json"}


@pytest.mark.parametrize("images", ["digits", "digits/photos", "."])
def test_a_run_in_the_folder_of_its_images_is_refused(
    run: Path, recipe: Recipe, images: str
) -> None:
    name = f"folder:{(run.parent / images).resolve()}"
    claim = FolderClaim(folder=run, recipe=recipe.model_copy(update={"dataset": name}))
    with pytest.raises(UserError, match="would lie in one another. Choose another folder for runs"):
        claim.check()


def test_the_threads_that_a_run_began_with_are_those_it_goes_on_with(
    run: Path, recipe: Recipe
) -> None:
    """The sums of its later stages are then in the same order as without the interruption."""
    assert FolderClaim(folder=run, recipe=recipe).take(DATA, 8) == 2
    assert FolderClaim(folder=run, recipe=recipe, started_over=STAGES).take(DATA, 8) == 8


def test_other_threads_that_are_insisted_on_are_the_runs_from_then_on(
    run: Path, recipe: Recipe
) -> None:
    claim = FolderClaim(folder=run, recipe=recipe)
    (run / "curves.png").touch()
    assert claim.take(DATA, 1, insist=True) == 1
    assert (claim.threads(), claim.take(DATA, 8)) == (1, 1)
    assert stages_in(run) == set(STAGES) and (run / "curves.png").exists()


def test_a_run_that_wrote_down_no_data_goes_on_and_does_now(run: Path, recipe: Recipe) -> None:
    there = json.loads((run / "run.json").read_text())
    del there["data"]
    (run / "run.json").write_text(json.dumps(there))
    claim = FolderClaim(folder=run, recipe=recipe)
    claim.check(DATA)
    claim.take(DATA, 2)
    assert stages_in(run) == set(STAGES)
    with pytest.raises(UserError, match="data.classes 10 there, 9 here"):
        claim.check(DATA | {"classes": 9})


def test_starting_one_stage_over_does_not_mix_two_recipes(run: Path, recipe: Recipe) -> None:
    claim = FolderClaim(folder=run, recipe=slower(recipe), started_over=("student",))
    with pytest.raises(UserError, match="holds teacher, assistant, begun with other values"):
        claim.check()
    assert stages_in(run) == set(STAGES)


def test_a_folder_that_cannot_be_deleted_loses_its_result_first(
    run: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that half of a deleted stage never counts as finished."""

    def busy(folder: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr("distill.run.claim.shutil.rmtree", busy)
    with pytest.raises(UserError, match="Device or resource busy"):
        FolderClaim(folder=run, recipe=recipe, started_over=("assistant", "student")).take(DATA, 2)
    assert (run / "teacher" / "result.json").exists()
    assert not (run / "assistant" / "result.json").exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe"])
def test_a_damaged_mark_is_one_sentence(run: Path, recipe: Recipe, content: bytes) -> None:
    (run / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run.json.*Start over with --fresh"):
        FolderClaim(folder=run, recipe=recipe).check()
