"""A teacher's logits made once before a stage: kept, gone on with, refused, replayed."""

import multiprocessing
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from distill.base.errors import Interrupted, UserError
from distill.base.signals import StopRequest
from distill.data.batches import TeacherLogits, training_batches
from distill.data.dataset import Dataset
from distill.data.load import load_dataset
from distill.run import caching
from distill.run.caching import cached_logits
from distill.run.claim import FolderClaim
from distill.run.request import RunRequest, planned
from distill.run.teacher import built_teacher, teacher_file
from distill.spec.own_teacher import asked_teacher
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe
from distill.spec.stage_plan import Overrides
from distill.step.assemble import assemble
from distill.step.models import build
from distill.step.step import ask_teacher
from tests.conftest import RECIPE, ROOT
from tests.forked import forked

OLD = ROOT / "tests" / "old_files" / "run" / "teacher"
CPU = torch.device("cpu")
IMAGES, EPOCHS = 100, 5


@dataclass(frozen=True)
class Caching:
    """A student of the small recipe, its teacher, and some digits."""

    recipe: Recipe
    out: Path
    data: Dataset

    @property
    def request(self) -> RunRequest:
        return RunRequest(
            recipe=self.recipe,
            profile=None,
            overrides=Overrides(batch_size=16),
            stage="student",
            out=self.out,
            data_dir=self.out / "data",
            device=CPU,
        )

    @property
    def folder(self) -> Path:
        return self.request.folder / "student" / "teacher_logits"

    def logits(self, stop: StopRequest | None = None) -> TeacherLogits:
        stage = self.recipe.stage_named("student")
        teacher = teacher_file(self.recipe, self.request.folder, stage)
        assert teacher is not None
        plan = planned(self.request, stage)
        return cached_logits(self.request, plan, teacher, self.data, stop or StopRequest())

    def changed(self, **changes: object) -> "Caching":
        return replace(self, recipe=changed_recipe(self.recipe, RecipeChanges(**changes)))


@pytest.fixture
def small(tmp_path: Path) -> Caching:
    """Three of five epochs' views of a hundred images."""
    (tmp_path / "small.toml").write_text(RECIPE)
    changes = RecipeChanges(
        epochs=EPOCHS,
        teacher=asked_teacher(str(OLD), None, "student"),
        teacher_mode="cached",
        teacher_views=3,
    )
    recipe = changed_recipe(load_recipe(str(tmp_path / "small.toml")), changes)
    data = load_dataset("digits", 8, tmp_path)
    return Caching(recipe, tmp_path, replace(data, train=data.train.take(np.arange(IMAGES))))


class StoppingStop(StopRequest):
    """A signal comes at the so-manieth look for one: SIGINT is a wish, SIGKILL the end."""

    def __init__(self, looks: int, signal_number: int) -> None:
        super().__init__()
        self.looks, self.signal_number = looks, signal_number

    def __getattribute__(self, name: str) -> object:
        if name == "number" and "looks" in self.__dict__:
            self.looks -= 1
            if self.looks <= 0:
                if self.signal_number == signal.SIGKILL:
                    os.kill(os.getpid(), signal.SIGKILL)
                return self.signal_number
        return super().__getattribute__(name)


def test_every_view_has_the_logits_that_the_teacher_gives_beside_the_student(
    small: Caching,
) -> None:
    taught = small.logits()
    assert taught.values.shape == (3, IMAGES, 10) and taught.values.dtype == np.float32
    plan = planned(small.request, small.recipe.stage_named("student"))
    teacher = built_teacher(small.request, plan, OLD / "checkpoints" / "best_acc_10.06.safetensors")
    assert teacher is not None
    student = build(plan.candidate.student)
    step = assemble(replace(plan.candidate, teacher_logits="online"), student, teacher, CPU)
    for epoch in range(EPOCHS):
        replayed, online = (
            training_batches(
                small.data.train, plan.candidate.input, seed=0, epoch=number, micro_batch=16,
                effective_batch=64, taught=logits,
            )
            for number, logits in ((epoch, taught), (epoch % 3, None))
        )  # fmt: skip
        shown, seen = ([b for update in e for b in update] for e in (replayed, online))
        assert [len(batch) for batch in shown] == [len(batch) for batch in seen]
        for batch in shown:
            assert batch.taught is not None
            answers = ask_teacher(step.teacher, step.prepare, step.prepare(batch))
            torch.testing.assert_close(batch.taught, answers, rtol=1e-5, atol=1e-6)
        if epoch < 3:  # the views of an epoch are those that it has with an online teacher
            for batch, same in zip(shown, seen, strict=True):
                assert torch.equal(batch.images, same.images)
                assert torch.equal(batch.views.offset_x, same.views.offset_x)
                assert torch.equal(batch.views.offset_y, same.views.offset_y)


def test_an_epoch_has_its_own_order_though_its_views_repeat(small: Caching) -> None:
    taught = small.logits()
    plan = planned(small.request, small.recipe.stage_named("student"))

    def rows(epoch: int) -> list[bytes]:
        (update, *_) = training_batches(
            small.data.train, plan.candidate.input, seed=0, epoch=epoch, micro_batch=IMAGES,
            effective_batch=IMAGES, taught=taught,
        )  # fmt: skip
        return [row.numpy().tobytes() for row in update[0].taught]

    assert rows(0) != rows(3) and sorted(rows(0)) == sorted(rows(3))
    assert sorted(rows(0)) != sorted(rows(1))


def test_whole_logits_are_not_made_again(small: Caching, capsys: pytest.CaptureFixture) -> None:
    small.logits()
    assert "caches its teacher's logits: 3 views of 100 images" in capsys.readouterr().err
    written = {path: path.stat().st_mtime_ns for path in small.folder.iterdir()}
    assert {path.name for path in written} == {"logits.json", "logits.npy"}
    small.logits()
    assert "caches" not in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in small.folder.iterdir()} == written


def test_asked_to_stop_it_keeps_what_there_is_and_goes_on(
    small: Caching, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole = replace(small, out=tmp_path / "whole").logits()
    with pytest.raises(Interrupted, match="of 300 views are kept; the same command goes on"):
        small.logits(StoppingStop(8, signal.SIGINT))
    assert not (small.folder / "logits.json").exists()
    again = small.logits()
    assert "student  goes on after" in capsys.readouterr().err
    assert np.array_equal(again.values, whole.values)
    assert again.seconds > 0


def test_killed_it_goes_on_after_the_last_piece_that_is_on_the_disk(
    small: Caching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    whole = replace(small, out=tmp_path / "whole").logits()
    monkeypatch.setattr(caching, "KEPT_EVERY_SECONDS", 0.0)
    child = multiprocessing.get_context("fork").Process(
        target=small.logits, args=(StoppingStop(15, signal.SIGKILL),)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert len((small.folder / "progress.jsonl").read_text().splitlines()) > 4
    again = small.logits()
    assert "student  goes on after" in capsys.readouterr().err
    assert np.array_equal(again.values, whole.values)


@pytest.mark.parametrize("damage", ["a bit", "half of it", "nothing left"])
def test_torn_logits_are_noticed_and_made_anew(
    small: Caching, damage: str, capsys: pytest.CaptureFixture
) -> None:
    values = np.array(small.logits().values)
    array = small.folder / "logits.npy"
    content = bytearray(array.read_bytes())
    content[len(content) // 2] ^= 1
    array.write_bytes({"a bit": content, "half of it": content[:500]}.get(damage, b""))
    assert np.array_equal(small.logits().values, values)
    assert "can't be trusted" in capsys.readouterr().err


@pytest.mark.parametrize(
    "document",
    ["", "{", "{}", "[1]", '{"key": {"schema_version": 9}}', '{"checksum": -1}', "\0" * 700],
)
def test_a_damaged_seal_costs_the_logits_and_no_training(
    small: Caching, document: str, capsys: pytest.CaptureFixture
) -> None:
    values = np.array(small.logits().values)
    (small.folder / "logits.json").write_text(document)
    assert np.array_equal(small.logits().values, values)
    assert "logits.json can't be trusted" in capsys.readouterr().err
    assert np.array_equal(small.logits().values, values)


@pytest.mark.parametrize("journal", ["1\n2\n", "{}\n", "{", "\0" * 300])
def test_a_damaged_journal_of_pieces_begins_anew(small: Caching, journal: str) -> None:
    values = np.array(small.logits().values)
    (small.folder / "logits.json").unlink()
    (small.folder / "progress.jsonl").write_text(journal)
    assert np.array_equal(small.logits().values, values)


def test_a_folder_in_the_place_of_a_file_is_named_with_the_cure(small: Caching) -> None:
    small.logits()
    for name in ("logits.json", "progress.jsonl"):
        (small.folder / "logits.json").unlink(missing_ok=True)
        (small.folder / name).mkdir()
        with pytest.raises(UserError, match=rf"{name} .*it is a folder.*\. Remove it"):
            small.logits()
        (small.folder / name).rmdir()


def test_logits_whose_end_is_missing_are_said_to_be_short(
    small: Caching, capsys: pytest.CaptureFixture
) -> None:
    small.logits()
    with (small.folder / "logits.npy").open("r+b") as stream:
        stream.truncate(500)
    small.logits()
    assert "can't be trusted (its end is missing)" in capsys.readouterr().err


def test_a_piece_that_is_torn_is_made_again_with_all_after_it(
    small: Caching, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(caching, "KEPT_EVERY_SECONDS", 0.0)
    with pytest.raises(Interrupted):
        small.logits(StoppingStop(20, signal.SIGINT))
    with (small.folder / "logits.npy").open("r+b") as stream:
        stream.seek(128 + 20 * 40)  # of image 20, in the second piece
        stream.write(b"\xff\xff")
    with (small.folder / "progress.jsonl").open("a") as stream:
        stream.write('{"end": 1')
    values = small.logits().values
    said = capsys.readouterr().err
    assert "row 16 and on are not what was written" in said and "goes on after 16 of 300" in said
    shutil.rmtree(small.folder)
    assert np.array_equal(small.logits().values, values)


def other_teacher(one: Caching) -> Caching:
    stage = shutil.copytree(OLD, one.out / "another")
    (best,) = (stage / "checkpoints").glob("*.safetensors")
    state = load_file(best)
    save_file({**state, "head.bias": state["head.bias"] + 1}, best)
    return one.changed(teacher=asked_teacher(str(stage), None, "student"))


def other_data(one: Caching) -> Caching:
    train = replace(one.data.train, labels=one.data.train.labels[::-1].copy())
    return replace(one, data=replace(one.data, train=train))


def other_views(one: Caching) -> Caching:
    flipped = one.recipe.augmentation.model_copy(update={"flip": True})
    return replace(one, recipe=one.recipe.model_copy(update={"augmentation": flipped}))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (other_teacher, "teacher "),
        (other_data, "data "),
        (other_views, "input "),
        (lambda one: one.changed(seed=1), "seed 0 there, 1 here"),
        (lambda one: one.changed(teacher_views=4), "views 3 there, 4 here"),
    ],
    ids=["teacher", "data", "transforms", "seed", "number of views"],
)
def test_logits_of_something_else_are_refused_with_the_cure(
    small: Caching, change, word: str, finished: bool
) -> None:
    if finished:
        small.logits()
    else:
        with pytest.raises(Interrupted):
            small.logits(StoppingStop(8, signal.SIGINT))
    before = {path: path.read_bytes() for path in small.folder.iterdir()}
    with pytest.raises(UserError, match="remove that folder: they are made anew") as found:
        change(small).logits()
    assert word in str(found.value)
    assert {path: path.read_bytes() for path in small.folder.iterdir()} == before


def test_a_folder_with_logits_alone_is_not_another_runs_to_take(small: Caching) -> None:
    request = small.request
    FolderClaim(folder=request.folder, recipe=small.recipe).take({}, 1)
    small.logits()
    claim = FolderClaim(folder=request.folder, recipe=small.changed(seed=1).recipe)
    with pytest.raises(UserError, match="seed 0 there, 1 here"):
        claim.check()


def test_logits_that_are_no_numbers_are_not_kept(small: Caching) -> None:
    class Endless(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images), 10), torch.inf)

    writer = small.folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caching, "built_teacher", lambda *_: Endless())
        with pytest.raises(caching.RunFailed, match="not finite in fp32. Try another teacher"):
            small.logits()
    assert not (writer / "logits.json").exists()


def test_unreadable_images_that_are_left_out_have_no_logits(small: Caching) -> None:
    folder = small.out / "pictures"
    generator = np.random.default_rng(0)
    for label in "0123456789":
        (folder / label).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    (folder / "3" / "0.png").write_bytes(b"no picture")
    name = f"folder:{folder}"
    data = load_dataset(name, 8, small.out / "data", skip_unreadable=True)
    model = build(replace(small.recipe.model_of("teacher"), channels=3))
    save_file(model.state_dict(), small.out / "coloured.safetensors")
    own = {"weights": str(small.out / "coloured.safetensors"), "name": "vit_tiny_patch16_224",
           "patch_size": 2, "depth": 2, "width": 32, "heads": 2}  # fmt: skip
    stages = [
        stage.model_copy(update={"own_teacher": stage.own_teacher.model_copy(update=own)})
        if stage.own_teacher is not None
        else stage
        for stage in small.recipe.stage
    ]
    recipe = small.recipe.model_copy(update={"stage": tuple(stages), "dataset": name})
    taught = replace(small, recipe=recipe, data=data).logits()
    assert data.unreadable and taught.values.shape[1] == len(data.train)


@pytest.mark.slow
def test_with_as_many_views_as_epochs_a_run_is_that_of_an_online_teacher(tmp_path: Path) -> None:
    """To the bit on a CPU; `clean` then takes the logits away."""
    (tmp_path / "small.toml").write_text(RECIPE)
    weights = []
    for mode in ("online", "cached"):
        out = tmp_path / mode
        done = forked(
            *("distill", "run", "--recipe", tmp_path / "small.toml", "--stage", "student"),
            *("--out", out, "--device", "cpu", "--teacher-weights", OLD, "--teacher", mode),
        )
        assert done.returncode == 0, done.stderr
        run = out / "from_scratch" / "digits"
        (best,) = (run / "student" / "checkpoints").glob("*.safetensors")
        weights.append(load_file(best))
    assert "from cached logits for 2 views of an image" in done.stderr
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())
    cleaned = forked("distill", "clean", run)
    assert cleaned.returncode == 0 and "teacher_logits/logits.npy" in cleaned.stdout
    assert not list((run / "student" / "teacher_logits").iterdir())
