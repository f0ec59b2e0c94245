"""Data sets in their publishers' formats, written here from real images."""

import gzip
import hashlib
import pickle
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import medmnist
import numpy as np
import pytest
import torch
from medmnist.info import INFO
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from distill.base.errors import UserError
from distill.base.signals import stop_on_signals
from distill.data import medical, published
from distill.data.load import is_mapped, load_dataset
from distill.run.chain import run_chain
from distill.run.request import RunRequest
from distill.spec.catalog import _MEDMNIST, dataset_info
from distill.spec.recipe import Recipe
from distill.spec.stage_plan import Overrides

TASKS = {
    "multi-class": "multi-class",
    "binary": "binary-class",
    "multi-label": "multi-label, binary-class",
    "ordinal": "ordinal-regression",
}


def grey(count: int, size: int) -> np.ndarray:
    """Handwritten digits, each pixel repeated, with a black edge: (N, size, size)."""
    digits = np.rint(load_digits().images[:count] * (255 / 16)).astype(np.uint8)
    large = digits.repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    edge = size - large.shape[1]
    return np.pad(large, ((0, 0), (0, edge), (0, edge)))


def colour(count: int, size: int) -> np.ndarray:
    """Pieces of a photograph: (N, size, size, 3)."""
    photo = load_sample_image("flower.jpg")
    places = np.random.default_rng(0).integers(0, 400 - size, (count, 2))
    return np.stack([photo[y : y + size, x : x + size] for y, x in places])


def write_medmnist(folder: Path, flag: str, size: int = 28, count: int = 24) -> Path:
    facts = INFO[flag]
    arrays = {}
    for part in ("train", "val", "test"):
        make = colour if facts["n_channels"] == 3 else grey
        arrays[f"{part}_images"] = make(count, size)
        labels = np.arange(count)[:, None] % len(facts["label"])
        if flag == "chestmnist":  # each answer with another period, so that both kinds occur
            labels = np.arange(count)[:, None] // np.arange(1, 15) % 2
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    path = folder / (f"{flag}.npz" if size == 28 else f"{flag}_{size}.npz")
    np.savez_compressed(path, **arrays)
    return path


def test_the_catalog_says_what_medmnist_says() -> None:
    two_dimensional = {flag for flag in INFO if not flag.endswith("3d")}
    assert set(_MEDMNIST) == two_dimensional and len(two_dimensional) == 12
    for flag in two_dimensional:
        info, facts = dataset_info(flag, 28), INFO[flag]
        assert TASKS[info.task] == facts["task"]
        assert (info.classes, info.channels) == (len(facts["label"]), facts["n_channels"])
        counts = facts["n_samples"]
        assert (info.train_images, info.validation_images) == (counts["train"], counts["val"])
        assert dataset_info(f"{flag}_224", 224).source_size == 224


def test_a_size_that_medmnist_lacks_is_one_sentence() -> None:
    with pytest.raises(UserError, match="pathmnist does not come in 32 px. Sizes: 28, 64"):
        dataset_info("pathmnist_32", 32)


@pytest.mark.slow
@pytest.mark.parametrize("flag", sorted(_MEDMNIST))
def test_every_medmnist_set_trains_an_epoch(tmp_path: Path, flag: str) -> None:
    write_medmnist(tmp_path, flag)
    recipe = Recipe.model_validate(
        {
            "name": "one",
            "about": "one epoch",
            "dataset": flag,
            "image_size": 28,
            "pretrained": False,
            "training": {"epochs": 1, "effective_batch": 12, "learning_rate": 1e-3},
            "augmentation": {"crop_scale": 0.5, "flip": True},
            "stage": [
                {"name": "teacher", "model": small(16)},
                {"name": "student", "model": small(8), "taught_by": "teacher"},
            ],
        }
    )
    request = RunRequest(
        recipe=recipe,
        profile=None,
        overrides=Overrides(),
        stage="all",
        out=tmp_path / "results",
        data_dir=tmp_path,
        device=torch.device("cpu"),
    )
    with stop_on_signals() as stop:
        results = run_chain(request, stop)
    assert [result.test_images for result in results] == [24, 24]
    assert all(0 <= result.test_accuracy <= 1 for result in results)
    assert all(result.test_auc is not None and 0 <= result.test_auc <= 1 for result in results)


def small(width: int) -> dict[str, object]:
    shape = {"patch_size": 14, "depth": 1, "width": width, "heads": 1}
    return {"name": "vit_tiny_patch16_224", **shape}


@pytest.mark.parametrize("flag", ["pathmnist", "chestmnist"])
@pytest.mark.parametrize("size", [28, 64])
def test_a_large_set_is_mapped_and_the_same(tmp_path: Path, monkeypatch, flag, size) -> None:
    write_medmnist(tmp_path, flag, size)
    name = flag if size == 28 else f"{flag}_{size}"
    in_memory = load_dataset(name, size, tmp_path)
    monkeypatch.setattr(medical, "IN_MEMORY_BYTES", 1000)
    mapped = load_dataset(name, size, tmp_path)
    assert (is_mapped(in_memory.val), is_mapped(mapped.val)) == (False, True)
    assert (in_memory.train.workers, mapped.train.workers) == (0, 2)
    publishers = getattr(medmnist, INFO[flag]["python_class"])(
        split="val", root=str(tmp_path), size=size
    )
    theirs = publishers.imgs.reshape(24, size, size, -1).transpose(0, 3, 1, 2)
    for data in (in_memory, mapped):
        assert np.array_equal(data.val.images_at(np.arange(24)), theirs)
        assert np.array_equal(data.val.labels.reshape(24, -1), publishers.labels)
        assert data.val.labels.ndim == (2 if flag == "chestmnist" else 1)


def without_images(path: Path, part: str) -> None:
    """The archive with nothing in one of its parts."""
    with np.load(path) as opened:
        arrays = dict(opened)
    for kind in ("images", "labels"):
        arrays[f"{part}_{kind}"] = arrays[f"{part}_{kind}"][:0]
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "not the publisher's file"),
        (lambda path: path.write_bytes(b"no archive"), "not the publisher's file"),
        (lambda path: np.savez(path, train_images=np.zeros(3)), "not the publisher's file"),
        (lambda path: without_images(path, "test"), "its part test holds no image"),
    ],
)
def test_a_damaged_archive_is_one_sentence(tmp_path: Path, spoil, sentence: str) -> None:
    spoil(write_medmnist(tmp_path, "breastmnist"))
    with pytest.raises(UserError, match=sentence):
        load_dataset("breastmnist", 28, tmp_path)


# -- CIFAR and Fashion-MNIST


def real_cifar(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Twenty test images (20, 3, 32, 32) and their classes, from PNGs that foolbox carries."""
    folder = Path(str(distribution("foolbox").locate_file("foolbox/data")))
    files = sorted(folder.glob(f"{name}_*.png"))
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    labels = [int(file.stem.rpartition("_")[2]) for file in files]
    return images.transpose(0, 3, 1, 2), np.array(labels)


def write_cifar(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """The publisher's batches, pickled dictionaries of rows of 3,072 bytes.

    The test images have their own classes; those to train on are the same in turn, with each
    class as often as the others.
    """
    fine = name == "cifar100"
    folder = root / ("cifar-100-python" if fine else "cifar-10-batches-py")
    folder.mkdir()
    key, classes = ("fine_labels", 100) if fine else ("labels", 10)
    names = ["train", "test"] if fine else [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
    images, labels = real_cifar(name)
    for batch in names:
        test = batch.startswith("test")
        rows = images if test else images[np.arange(200) % 20]
        kinds = labels if test else np.arange(200) % classes
        content = {"data": rows.reshape(len(rows), -1), key: kinds.tolist()}
        (folder / batch).write_bytes(pickle.dumps(content))
    titles = {"fine_label_names" if fine else "label_names": [f"kind {n}" for n in range(classes)]}
    (folder / ("meta" if fine else "batches.meta")).write_bytes(pickle.dumps(titles))
    for path in folder.iterdir():
        yield path.name, hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "train", "val"), [("cifar10", 900, 100), ("cifar100", 100, 100)])
def test_cifar_is_read_by_torchvision(tmp_path: Path, monkeypatch, name, train, val) -> None:
    import torchvision.datasets

    sums = dict(write_cifar(tmp_path, name))
    torchvisions = getattr(torchvision.datasets, name.upper())
    for listed in ("train_list", "test_list"):
        own = [[file, sums[file]] for file, _ in getattr(torchvisions, listed)]
        monkeypatch.setattr(torchvisions, listed, own)
    meta = torchvisions.meta
    monkeypatch.setattr(torchvisions, "meta", meta | {"md5": sums[meta["filename"]]})
    data = load_dataset(name, 32, tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (train, val, 20)
    images, labels = real_cifar(name)
    assert np.array_equal(data.test.images_at(np.arange(20)), images)
    assert np.array_equal(data.test.labels, labels)
    assert data.classes[3] == "kind 3"
    assert len(data.classes) == dataset_info(name, 32).classes == len(set(data.val.labels))


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


def test_fashion_mnist_is_read_by_torchvision_from_packed_files(tmp_path: Path) -> None:
    labels = np.arange(100, dtype=np.uint8) % 10
    for name in published.FASHION_FILES:
        values = labels if "labels" in name else grey(100, 28)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
    data = load_dataset("fashion_mnist", 28, tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (90, 10, 100)
    assert np.array_equal(data.test.images_at(np.arange(100))[:, 0], grey(100, 28))
    assert data.classes[9] == "Ankle boot"


def test_a_torn_fashion_file_is_one_sentence(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in published.FASHION_FILES:
        values = np.zeros(10, dtype=np.uint8) if "labels" in name else grey(10, 28)
        (raw / name).write_bytes(idx(values)[:500])
    with pytest.raises(UserError, match="fashion_mnist is not in .* or is damaged"):
        load_dataset("fashion_mnist", 28, tmp_path)
