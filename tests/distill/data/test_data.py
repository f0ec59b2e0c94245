"""Loading, splitting, cutting and preparing images."""

import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distill.base.errors import UserError
from distill.data.batches import (
    cut,
    evaluation_batches,
    micro_batch_sizes,
    training_batches,
    updates_per_epoch,
)
from distill.data.dataset import Split, content_of, split, stratified_rows
from distill.data.load import load_dataset
from distill.spec.candidate import InputSpec
from distill.step.models import Normalisation
from distill.step.prepare import Prepare

CPU = torch.device("cpu")


def numbered(count: int, size: int = 4) -> Split:
    """Images whose pixels are all different, labels that count up."""
    images = np.arange(count * size * size, dtype=np.uint8).reshape(count, 1, size, size)
    return Split(images, np.arange(count))


def test_digits_are_split_once_and_for_all() -> None:
    one, other = (load_dataset("digits", 8, Path("unused")) for _ in range(2))
    assert [len(part) for part in (one.train, one.val, one.test)] == [1259, 179, 359]
    assert np.array_equal(one.test.rows, other.test.rows)
    assert one.train.images.dtype == np.uint8 and one.train.images.max() == 255


@given(
    st.lists(st.integers(0, 4), min_size=30, max_size=200).filter(
        lambda labels: min(np.unique(labels, return_counts=True)[1]) >= 3
    )
)
def test_every_row_is_in_one_part_and_every_class_in_each(labels: list[int]) -> None:
    array = np.array(labels)
    parts = stratified_rows(array, ("test", "val"), seed=0)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    for part in parts[:2]:
        assert set(array[part]) == set(labels)


def test_a_class_too_small_to_split_is_one_sentence() -> None:
    with pytest.raises(UserError, match="Class number 1 has 2 image"):
        stratified_rows(np.array([0, 0, 0, 1, 1]), ("test", "val"), seed=0)


@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 16))
def test_an_epoch_cuts_every_image_once(count: int, micro: int, accumulation: int) -> None:
    effective = micro * accumulation
    updates = list(
        training_batches(
            numbered(count),
            InputSpec(source_size=4),
            seed=3,
            epoch=1,
            micro_batch=micro,
            effective_batch=effective,
        )
    )
    assert len(updates) == updates_per_epoch(count, effective)
    labels = [int(label) for update in updates for batch in update for label in batch.labels]
    assert sorted(labels) == list(range(count))
    assert all(len(batch) <= micro for update in updates for batch in update)
    assert all(sum(len(b) for b in update) == effective for update in updates[:-1])


@given(st.integers(2, 40), st.integers(2, 16), st.integers(1, 16))
def test_no_image_is_alone_where_batch_norm_takes_none(
    count: int, micro: int, accumulation: int
) -> None:
    """At most one image of an update is left out, and no micro-batch is larger than planned."""
    effective = micro * accumulation
    numbers = {"micro_batch": micro, "effective_batch": effective, "fewest": 2}
    spec = InputSpec(source_size=4)
    updates = list(training_batches(numbered(count), spec, seed=3, epoch=1, **numbers))
    assert len(updates) == updates_per_epoch(count, effective, 2)
    assert all(2 <= len(batch) <= micro for update in updates for batch in update)
    labels = [int(label) for update in updates for batch in update for label in batch.labels]
    assert len(set(labels)) == len(labels) >= count - 1 - (micro == 2) * len(updates)


@pytest.mark.parametrize(
    ("images", "micro", "sizes"),
    [
        (19, 8, [8, 8, 3]),
        (17, 8, [8, 7, 2]),
        (17, 16, [15, 2]),
        (5, 2, [2, 2]),
        (4, 3, [2, 2]),
        (1, 8, []),
    ],
)
def test_a_lone_image_joins_or_is_left_out(images: int, micro: int, sizes: list[int]) -> None:
    assert micro_batch_sizes(images, micro, 2) == sizes


def test_who_reads_ahead_are_threads_which_need_no_shared_memory() -> None:
    """A container gives /dev/shm 64 MiB; processes that hand images on would need more."""
    batches = evaluation_batches(replace(numbered(9), workers=2), 2)
    assert len(next(batches)) == 2
    assert any(thread.name.startswith("data") for thread in threading.enumerate())
    assert not multiprocessing.active_children()
    assert len(list(batches)) == 4


def test_evaluation_goes_in_order_and_sees_images_as_they_are() -> None:
    batches = list(evaluation_batches(numbered(5), 2))
    assert [batch.labels.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert all(batch.views is None for batch in batches)


def test_preparing_normalises_and_resizes() -> None:
    prepare = Prepare(InputSpec(source_size=4), 8, Normalisation((0.5,), (0.25,)), CPU)
    white = Split(np.full((2, 1, 4, 4), 255, dtype=np.uint8), np.zeros(2, dtype=np.int64))
    images = prepare(cut(white, np.arange(2), None))
    assert images.shape == (2, 1, 8, 8) and images.dtype == torch.float32
    assert torch.allclose(images, torch.full_like(images, 2.0))


def test_a_view_is_the_window_and_mirror_that_its_draws_say() -> None:
    from distill.data.batches import Views

    data = numbered(3)
    views = Views(
        torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]), torch.tensor([False, True, False])
    )
    prepare = Prepare(
        InputSpec(source_size=4, crop_padding=1, flip=True),
        4,
        Normalisation((0.0,), (1 / 255,)),
        CPU,
    )
    seen = prepare(cut(data, np.arange(3), views)).to(torch.uint8)
    for index, (y, x, flip) in enumerate([(0, 2, False), (1, 1, True), (2, 0, False)]):
        padded = np.pad(data.images[index, 0], 1)
        window = padded[y : y + 4, x : x + 4]
        assert np.array_equal(seen[index, 0].numpy(), window[:, ::-1] if flip else window)


def test_the_mark_of_data_changes_with_an_image_a_label_a_name_or_a_size() -> None:
    def mark(count: int = 30, name: str = "two", image: int = 0, label: int = 0) -> object:
        whole = numbered(count)
        whole.images[3] += np.uint8(image)
        labels = whole.labels % 3
        labels[4] = (labels[4] + label) % 3
        parts = {"train": Split(whole.images, labels)}
        return content_of(split("numbers", ("zero", "one", name), parts, seed=0))

    whole = mark()
    assert mark() == whole
    others = [mark(count=33), mark(name="deux"), mark(image=1), mark(label=1)]
    assert all(other != whole for other in others)


# -- folders of images


def image_folder(root: Path, classes: int = 2, each: int = 4) -> Path:
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (12, 9), (60 * label, 20 * number, 0)).save(folder / f"{number}.png")
    return root


def test_a_folder_of_images_by_class_is_a_data_set(tmp_path: Path) -> None:
    data = load_dataset(f"folder:{image_folder(tmp_path / 'images', each=10)}", 8, tmp_path)
    assert data.classes == ("class0", "class1")
    assert len(data.train) == 14 and data.train.images_at(np.arange(2)).shape == (2, 3, 8, 8)
    assert {len(data.val), len(data.test)} == {2, 4}


def torn_image(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: [f.unlink() for f in (root / "class1").iterdir()], "holds no image"),
        (lambda root: (root / "class1" / "0.png").write_bytes(b"no"), "Cannot read 1 of 8 images"),
        (lambda root: torn_image(root / "class1" / "torn.jpg"), "torn.jpg: the file ends before"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_sentence(tmp_path: Path, spoil, sentence) -> None:
    root = image_folder(tmp_path / "images")
    spoil(root)
    with pytest.raises(UserError, match=sentence):
        load_dataset(f"folder:{root}", 8, tmp_path)


def test_one_class_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds 1 folder"):
        load_dataset(f"folder:{image_folder(tmp_path / 'images', classes=1)}", 8, tmp_path)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a directory"):
        load_dataset(f"folder:{tmp_path / 'nothing'}", 8, tmp_path)
