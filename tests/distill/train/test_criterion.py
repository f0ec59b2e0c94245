"""The best epoch: by AUC where an image has several labels, else by accuracy, ties by the loss."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.base.signals import StopRequest
from distill.run.chain import run_chain
from distill.run.request import RunRequest
from distill.spec.candidate import Criterion
from distill.spec.own_work import OwnWork
from distill.spec.recipe import load_recipe
from distill.spec.recipe_changes import RecipeChanges, changed_recipe
from distill.spec.stage_plan import Overrides
from distill.train.best_weights import drop_superseded, find_best, save_best
from distill.train.criterion import (
    best_of,
    default_criterion,
    has_waited,
    is_better,
    score_text,
)
from distill.train.run_folder import EpochRow, StageFolder

SHARES = st.sampled_from([0.0, 0.5, 0.9567, 1.0])


def row(
    epoch: int, accuracy: float, loss: float = 0.5, auc: float | None = None, f1: float = 0.5
) -> EpochRow:
    values = dict.fromkeys(EpochRow.__dataclass_fields__, 0.5)
    found = {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss, "val_auc": auc}
    found["val_f1_score"] = f1
    return EpochRow(**{**values, "gpu_memory_mb": None, **found})


@pytest.mark.parametrize(
    ("task", "criterion"),
    [
        ("multi-label", "auc"),
        ("multi-class", "accuracy"),
        ("binary", "accuracy"),
        ("ordinal", "accuracy"),
    ],
)
def test_the_task_names_the_score(task, criterion: Criterion) -> None:
    assert default_criterion(task) == criterion


@pytest.mark.parametrize(
    ("rows", "criterion", "best"),
    [
        ([row(1, 0.9, 0.9), row(2, 0.8, 0.1)], "accuracy", 1),
        ([row(1, 0.9, 0.9), row(2, 0.9, 0.1), row(3, 0.9, 0.1)], "accuracy", 2),
        ([row(1, 0.95, 0.1, 0.5), row(2, 0.9, 0.2, 0.7)], "auc", 2),
        ([row(1, 0.95, 0.3, 0.7), row(2, 0.9, 0.2, 0.7)], "auc", 2),
        ([row(1, 0.95, 0.3), row(2, 0.9, 0.2), row(3, 0.9, 0.4)], "auc", 2),
        ([row(1, 0.95, 0.1), row(2, 0.9, 0.2, 0.1)], "auc", 2),
        ([row(1, 0.95, 0.3), row(2, 0.9, 0.2), row(3, 0.99, 0.2)], "loss", 2),
        ([row(1, 0.95, 0.3, f1=0.2), row(2, 0.9, 0.4, f1=0.6)], "f1", 2),
    ],
)
def test_a_tie_and_a_score_that_is_not_there_fall_back_on_the_loss(
    rows: list[EpochRow], criterion: Criterion, best: int
) -> None:
    found = best_of(rows, criterion)
    assert found is not None and found.epoch == best


@given(
    st.lists(st.tuples(SHARES, st.floats(0, 9), st.none() | SHARES), min_size=1),
    st.sampled_from(["accuracy", "auc"]),
)
def test_epoch_by_epoch_the_same_one_is_kept_as_of_all_at_once(
    scores: list[tuple[float, float, float | None]], criterion: Criterion
) -> None:
    rows = [row(1 + place, *values) for place, values in enumerate(scores)]
    kept = None
    for one in rows:
        if is_better(one, kept, criterion):
            kept = one
    assert kept == best_of(rows, criterion)


def test_of_two_files_the_best_is_that_by_the_score_they_were_kept_for(tmp_path: Path) -> None:
    """As after a kill between the writing of the second and the removal of the first."""
    folder, model = StageFolder(tmp_path, "vit_tiny_teacher"), torch.nn.Linear(2, 2)
    save_best(folder, row(1, 0.95, auc=0.5), model)
    kept = save_best(folder, row(2, 0.94, auc=0.8), model, criterion="auc")
    assert find_best(folder) == (kept, 2, 0.94)
    drop_superseded(folder, kept)
    assert len(folder.best_files()) == 1


def test_a_score_is_told_with_its_name() -> None:
    assert score_text(row(1, 0.5, auc=0.861), "auc") == "AUC 0.8610"
    assert score_text(row(1, 0.5), "auc") == "AUC not known"
    assert score_text(row(1, 0.5), "accuracy") == "accuracy 50.00 %"


# -- fourteen rare labels, on which every epoch's accuracy is that of "none of them"


def rare_labels(path: Path) -> None:
    """ChestMNIST in the publisher's format: each label is a bright block at a place of its own."""
    random = np.random.default_rng(1)
    arrays = {}
    for part, count in (("train", 400), ("val", 150), ("test", 150)):
        labels = random.random((count, 14)) < 0.05
        images = random.integers(0, 60, (count, 4, 7, 4, 7)).astype(np.uint8)
        for label in range(14):
            images[labels[:, label], label // 4, :6, label % 4, :6] = 230
        arrays[f"{part}_images"] = images.reshape(count, 28, 28)
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    np.savez(path, **arrays)


@pytest.fixture
def rare_request(tmp_path: Path, recipe_file: Path) -> RunRequest:
    rare_labels(tmp_path / "chestmnist.npz")
    text = recipe_file.read_text().replace("image_size = 8", "image_size = 28")
    for old, new in (("size = 2", "size = 7"), ("= 64", "= 8"), ("padding = 1", "padding = 0")):
        text = text.replace(old, new)
    recipe_file.write_text(text)
    changes = RecipeChanges(work=OwnWork(dataset="chestmnist"), epochs=6, learning_rate=1e-3)
    return RunRequest(
        recipe=changed_recipe(load_recipe(str(recipe_file)), changes),
        profile=None,
        overrides=Overrides(),
        stage="teacher",
        out=tmp_path / "out",
        data_dir=tmp_path,
        device=torch.device("cpu"),
    )


@pytest.mark.slow
def test_rare_labels_are_chosen_by_their_area_and_not_by_an_accuracy_that_never_changes(
    rare_request: RunRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    (result,) = run_chain(rare_request, StopRequest())
    (log,) = rare_request.folder.glob("teacher/logs/*_log.csv")
    with log.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["val_accuracy"] for row in rows}) == 1
    areas = [float(row["val_auc"]) for row in rows]
    assert result.best_epoch == 1 + areas.index(max(areas)) > 1
    assert result.test_auc is not None and result.test_auc > 0.7
    assert "best epoch by AUC" in capsys.readouterr().err


def test_patience_ends_after_so_many_epochs_that_were_no_better() -> None:
    rows = [row(epoch, 0.5) for epoch in range(1, 6)]
    assert not has_waited(rows[:4], rows[2], 2)
    assert has_waited(rows, rows[2], 2)
    assert not has_waited(rows, rows[2], None)


def test_the_loss_is_no_percentage() -> None:
    assert score_text(row(1, 0.5, 0.1234), "loss") == "loss 0.123"
