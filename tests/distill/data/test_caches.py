"""Images that were decoded once: trusted only where they are exactly what was written."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import distill.data.medical as medical
from distill.base.errors import UserError
from distill.data.load import load_dataset
from distill.data.sealed_array import read_sealed, seal
from tests.distill.data.test_folder import photos
from tests.distill.data.test_sources import write_medmnist
from tests.nodes import FULL, device, loop, odd_things, pipe, within

SIZE = 16


def array_file(path: Path, shape: tuple[int, ...] = (4, 3, 5, 5)) -> np.ndarray:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.save(path, array)
    seal(path)
    return array


def test_a_sealed_array_reads_back_mapped(tmp_path: Path) -> None:
    array = array_file(tmp_path / "a.npy")
    found = read_sealed(tmp_path / "a.npy", array.shape)
    assert isinstance(found, np.memmap) and np.array_equal(found, array)


def zeroed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:-13] = bytes(len(content) - 213)
    path.write_bytes(content)


def resaved(shape: tuple[int, ...], dtype: type = np.uint8) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        with path.open("wb") as stream:
            np.save(stream, np.zeros(shape, dtype=dtype))
        seal(path)

    return save


def claiming(shape: tuple[int, ...]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as stream:
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
        seal(path)

    return write


SPOILED: dict[str, Callable[[Path], object]] = {
    "zeros": zeroed,
    "a flipped bit": lambda path: path.write_bytes(
        path.read_bytes()[:300] + bytes([path.read_bytes()[300] ^ 1]) + path.read_bytes()[301:]
    ),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("images"),
    "unsealed": lambda path: path.write_bytes(path.read_bytes()[:-13]),
    "too many images": resaved((13, 3, SIZE, SIZE)),
    "too few images": resaved((3, 3, SIZE, SIZE)),
    "another size": resaved((12, 3, SIZE + 1, SIZE + 1)),
    "floats": resaved((12, 3, SIZE, SIZE), np.float32),
    "a claim of 40 TB": claiming((12, 3, 2**20, 2**20)),
}


@pytest.mark.parametrize("damage", SPOILED)
def test_images_that_can_not_be_trusted_are_decoded_anew_with_one_line(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, data_dir = f"folder:{photos(tmp_path / 'images')}", tmp_path / "data"
    before = np.array(load_dataset(name, SIZE, data_dir).train.images)
    (kept,) = data_dir.glob("folders/*.npy")
    whole = kept.read_bytes()
    SPOILED[damage](kept)
    capsys.readouterr()
    data = load_dataset(name, SIZE, data_dir)
    told = capsys.readouterr().err
    assert f"{kept} can't be trusted" in told and told.count("\n") == 1
    assert np.array_equal(data.train.images, before)
    assert kept.read_bytes() == whole
    load_dataset(name, SIZE, data_dir)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"notes": [], "copies": [[99, 0]]}', b"[" * 1000, b"\xff"]
)
def test_findings_that_can_not_be_trusted_are_made_anew(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    name, data_dir = f"folder:{photos(tmp_path / 'images')}", tmp_path / "data"
    load_dataset(name, SIZE, data_dir)
    (kept,) = data_dir.glob("folders/*.json")
    whole = kept.read_bytes()
    kept.write_bytes(content)
    load_dataset(name, SIZE, data_dir)
    assert "can't be trusted" in capsys.readouterr().err
    assert kept.read_bytes() == whole


@pytest.mark.parametrize("make", [pipe, lambda path: device(path, FULL)])
def test_what_is_no_plain_file_is_neither_waited_for_nor_replaced(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    name, data_dir = f"folder:{photos(tmp_path / 'images')}", tmp_path / "data"
    load_dataset(name, SIZE, data_dir)
    (kept,) = data_dir.glob("folders/*.npy")
    kept.unlink()
    kind = make(kept).lstat().st_mode
    with within(10), pytest.raises(UserError, match="is no plain file. Remove it"):
        load_dataset(name, SIZE, data_dir)
    assert kept.lstat().st_mode == kind


def test_images_that_are_no_plain_files_are_named(tmp_path: Path) -> None:
    root = photos(tmp_path / "images")
    for number, (_, path) in enumerate(odd_things(tmp_path)):
        (root / "kind0" / f"odd{number}.png").symlink_to(path)
    with within(10), pytest.raises(UserError, match=r"odd\d.png: .*Replace or remove them"):
        load_dataset(f"folder:{root}", SIZE, tmp_path / "data")


@pytest.mark.parametrize("damage", ["zeros", "torn", "too many images", "a claim of 40 TB"])
def test_a_mapped_copy_that_can_not_be_trusted_is_made_anew(
    tmp_path: Path, damage: str, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_medmnist(tmp_path, "breastmnist", 28)
    monkeypatch.setattr(medical, "IN_MEMORY_BYTES", 1000)
    before = np.array(load_dataset("breastmnist", 28, tmp_path).val.images)
    copy = tmp_path / "breastmnist" / "val_images.npy"
    SPOILED[damage](copy)
    os.utime(copy)
    capsys.readouterr()
    assert np.array_equal(load_dataset("breastmnist", 28, tmp_path).val.images, before)
    told = capsys.readouterr().err
    assert f"{copy} can't be trusted" in told and told.count("\n") == 1


def with_labels(labels: np.ndarray, images: int = 24) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with np.load(path) as opened:
            arrays = dict(opened)
        arrays["val_labels"], arrays["val_images"] = labels, arrays["val_images"][:images]
        np.savez(path, **arrays)

    return write


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_labels(np.full((24, 1), "0")), "labels are <U1, not whole numbers"),
        (with_labels(np.zeros((24, 1))), "labels are float64, not whole numbers"),
        (with_labels(np.full((24, 1), 2)), "labels from 2 to 2"),
        (with_labels(np.full((24, 1), -1)), "labels from -1 to -1"),
        (with_labels(np.zeros((25, 1), np.uint8)), r"\(25, 1\) labels for 24 images"),
        (with_labels(np.zeros((24, 1), np.uint8), 5), r"\(24, 1\) labels for 5 images"),
        (with_labels(np.zeros((24,), np.uint8)), r"\(24,\) labels for 24 images"),
        (with_labels(np.full((24, 1), None)), "holds Python's objects"),
    ],
)
def test_labels_that_are_none_are_one_sentence(tmp_path: Path, spoil, words: str) -> None:
    spoil(write_medmnist(tmp_path, "breastmnist"))
    with pytest.raises(UserError, match=f"is not the publisher's file .*{words}.*Remove it"):
        load_dataset("breastmnist", 28, tmp_path)


def test_an_archive_whose_header_claims_a_terabyte_is_not_unpacked(tmp_path: Path) -> None:
    path = write_medmnist(tmp_path, "breastmnist")
    with np.load(path) as opened:
        arrays = dict(opened)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as stream:
                shape = (2**40, 28, 28) if name == "val_images" else array.shape
                header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
                stream.write(array.tobytes())
    with pytest.raises(UserError, match=r"val_images.npy claims [0-9,]+ bytes"):
        load_dataset("breastmnist", 28, tmp_path)


@pytest.mark.parametrize("make", [pipe, loop, lambda path: device(path, FULL)])
def test_an_archive_that_is_no_plain_file_is_one_sentence(tmp_path: Path, make) -> None:
    make(tmp_path / "breastmnist.npz")
    with within(20), pytest.raises(UserError, match="breastmnist.npz"):
        load_dataset("breastmnist", 28, tmp_path)
