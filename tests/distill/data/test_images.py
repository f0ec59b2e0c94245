"""The scale of grey and colours of more than 8 bits, formats that are read and that are not."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from distill.base.errors import UserError
from distill.data.images import DeepValues, UnreadableImage, read_image, white_of
from distill.data.load import load_dataset


def grey_folder(root: Path, kind: str, factor: int, shift: int = 0) -> Path:
    """Two classes of noise, the values of the second above those of the first."""
    for place, label in enumerate("ab"):
        (root / label).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(10 * place + number).integers(0, 120, (20, 20))
            values = (noise + 120 * place) * factor + shift
            suffix, dtype = {"png16": ("png", "uint16"), "tiff32": ("tif", "int32")}[kind]
            Image.fromarray(values.astype(dtype)).save(root / label / f"{number}.{suffix}")
    return root


def whole(root: Path, tmp_path: Path) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """All decoded images of a folder, and what is said of them."""
    data = load_dataset(f"folder:{root}", 20, tmp_path / "data")
    return np.asarray(data.train.images), data.notes


@pytest.mark.parametrize(
    ("factor", "bits", "brightest"), [(16, 12, 238), (1, 8, 239), (64, 14, 238), (270, 16, 251)]
)
def test_grey_of_more_than_8_bits_is_scaled_by_a_depth_that_is_told(
    tmp_path: Path, factor: int, bits: int, brightest: int
) -> None:
    """As 12 bits of a detector in a PNG of 16: without a scale of their own, 16 greys at most."""
    root = grey_folder(tmp_path / "images", "png16", factor)
    for _ in range(2):  # decoded, then found again
        images, notes = whole(root, tmp_path)
        assert len(np.unique(images)) > 200 and images.max() == brightest
        assert notes == (
            f"8 grey images of more than 8 bits: values from 0 to {239 * factor:,}, read as "
            f"{bits} bits ({2**bits - 1:,} is white).",
        )


def test_one_scale_holds_for_all_images_of_a_folder(tmp_path: Path) -> None:
    """Each by its own would hide that one class is brighter."""
    images, _ = whole(grey_folder(tmp_path / "images", "png16", 16), tmp_path)
    darkest, brightest = sorted(image.mean() for image in images)[:: len(images) - 1]
    assert brightest > 2 * darkest


def test_hounsfield_units_are_refused_with_the_cure(tmp_path: Path) -> None:
    root = grey_folder(tmp_path / "images", "tiff32", 7, -800)
    with pytest.raises(UserError, match=r"8 of the images hold grey values from -800 to 873, wh"):
        whole(root, tmp_path)
    assert not list((tmp_path / "data" / "folders").iterdir())


def test_one_image_below_zero_is_enough_to_refuse(tmp_path: Path) -> None:
    root = grey_folder(tmp_path / "images", "png16", 16)
    Image.fromarray(np.full((9, 9), -1, dtype=np.int32)).save(root / "a" / "one.tif")
    with pytest.raises(UserError, match="Choose which value is black"):
        whole(root, tmp_path)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1))
def test_white_is_at_most_one_depth_above_the_highest_value(highest: list[int]) -> None:
    white = white_of([DeepValues(0, value, coloured=False) for value in highest])
    assert white in (255, 1023, 4095, 16383, 65535)
    assert max(highest) <= white <= max(255, 4 * max(highest) + 3)


def colour_of_sixteen_bits(path: Path, brightest: int) -> None:
    """A PNG of 16 bits a colour, which PIL writes none of (PNG specification, chunks)."""
    values = np.linspace(0, brightest, 20 * 20 * 3).reshape(20, 60).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


@pytest.mark.parametrize(("brightest", "refused"), [(4095, True), (60_000, False)])
def test_colours_in_a_part_of_their_16_bits_are_refused(
    tmp_path: Path, brightest: int, refused: bool
) -> None:
    for place in range(8):
        path = tmp_path / "images" / "ab"[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour_of_sixteen_bits(path, brightest)
    if refused:
        with pytest.raises(UserError, match=r"8 of the images hold colours of 16 bits of which"):
            whole(tmp_path / "images", tmp_path)
    else:
        assert whole(tmp_path / "images", tmp_path)[0].max() > 230


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    values = np.full((8, 8), 257 * 100, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert set(read_image(tmp_path / "deep.png", 8).pixels.ravel()) == {100}


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(UnreadableImage, match="floating-point numbers of unknown scale"):
        read_image(tmp_path / "float.tiff", 8)


def test_a_pgm_says_its_own_scale(tmp_path: Path) -> None:
    values = np.full((8, 8), 2000, dtype=">u2")
    (tmp_path / "deep.pgm").write_bytes(b"P5 8 8 4000\n" + values.tobytes())
    picture = read_image(tmp_path / "deep.pgm", 8)
    assert set(picture.pixels.ravel()) == {128} and picture.deep is None


@pytest.mark.parametrize(
    ("suffix", "file_format"),
    [("pgm", "PPM"), ("jfif", "JPEG"), ("jpe", "JPEG"), ("avif", "AVIF"), ("jp2", "JPEG2000")],
)
def test_less_common_formats_are_read(tmp_path: Path, suffix: str, file_format: str) -> None:
    mode = "L" if suffix == "pgm" else "RGB"
    Image.new(mode, (20, 20), "white").save(tmp_path / f"one.{suffix}", format=file_format)
    assert read_image(tmp_path / f"one.{suffix}", 8).pixels.min() > 250


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (0, "it holds no picture of a known kind"),
        (400, "the file ends before its picture does"),
    ],
)
def test_a_file_that_was_cut_off_is_told_in_plain_words(
    tmp_path: Path, kept: int, words: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for name in ("one.jpg", "one.png"):
        Image.fromarray(noise).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[: kept and kept + 600])
        with pytest.raises(UnreadableImage, match=f"{name}: {words}$"):
            read_image(tmp_path / name, 8)


def test_what_is_no_picture_of_pixels_is_refused_whatever_its_name(tmp_path: Path) -> None:
    """PIL's reader of EPS starts another program."""
    Image.new("RGB", (8, 8)).save(tmp_path / "one.eps")
    (tmp_path / "one.eps").rename(tmp_path / "one.png")
    with pytest.raises(UnreadableImage, match=r"one.png: it holds no picture of a known kind"):
        read_image(tmp_path / "one.png", 8)
