"""Folders of images: what is made to fit, what is refused, and what is kept for the next time."""

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from distill.base.errors import UserError
from distill.base.files import STALE_SUFFIX, file_mode
from distill.data.dataset import stratified_rows
from distill.data.images import UnreadableImage, read_image
from distill.data.load import is_mapped, load_dataset
from distill.spec.catalog import dataset_info
from distill.spec.image_source import whole_name
from distill.step.models import get_vit_model, load_state

SIZE = 16


def photos(root: Path, classes: int = 2, each: int = 6) -> Path:
    photo = load_sample_image("china.jpg")
    for label in range(classes):
        (root / f"kind{label}").mkdir(parents=True)
        for number in range(each):
            piece = photo[40 * label : 40 * label + 30, 50 * number : 50 * number + 40]
            Image.fromarray(piece).save(root / f"kind{label}" / f"{number}.png")
    return root


def test_a_folder_lies_in_a_file_that_two_threads_read(tmp_path: Path) -> None:
    root = photos(tmp_path / "images")
    data = load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
    assert is_mapped(data.train) and data.train.workers == 2
    assert load_dataset(f"folder:{root}", SIZE, tmp_path / "data", workers=0).train.workers == 0
    assert len(data.train) == dataset_info(f"folder:{root}", SIZE).train_images


def test_it_is_decoded_once_and_again_when_an_image_changes(tmp_path: Path) -> None:
    root, kept = photos(tmp_path / "images"), tmp_path / "data" / "folders"
    load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
    (first,) = kept.glob("*.npy")
    before = first.stat().st_mtime_ns
    load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
    assert [first.stat().st_mtime_ns, *kept.glob("*.npy")] == [before, first]
    os.utime(root / "kind0" / "0.png", (1, 1))
    load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
    (second,) = kept.glob("*.npy")
    assert second != first
    assert {path.stem for path in kept.iterdir()} == {second.stem}


def test_all_that_cannot_be_read_is_told_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    root = photos(tmp_path / "images")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for number in range(5):
        torn = root / "kind1" / f"torn{number}.jpg"
        Image.fromarray(noise).save(torn)
        torn.write_bytes(torn.read_bytes()[:700])
    with pytest.raises(UserError, match=r"Cannot read 5 of 17 images: .*torn0.jpg.*and 2 more"):
        load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
    assert not list((tmp_path / "data" / "folders").iterdir())


def test_an_animation_gives_its_first_picture_and_a_note(tmp_path: Path) -> None:
    root = photos(tmp_path / "images")
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    path = root / "kind0" / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
    assert data.notes == ("1 image(s) are animated; the first picture of each is used.",)
    picture = read_image(path, SIZE)
    assert picture.animated and picture.pixels[:, 0, 0].tolist() == [255, 0, 0]


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "dot.png")
    image = read_image(tmp_path / "dot.png", SIZE).pixels
    assert image.shape == (3, SIZE, SIZE) and set(image.reshape(3, -1)[1]) == {20}


def test_a_palette_becomes_colours_and_transparent_places_white(tmp_path: Path) -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png", 8).pixels[:, 3, 3].tolist() == [200, 100, 50]
    palette.save(tmp_path / "glass.png", transparency=b"\xff\x00")
    assert read_image(tmp_path / "glass.png", 8).pixels[:, 3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("each", [1, 2])
def test_a_class_too_small_to_split_is_named_before_any_work(tmp_path: Path, each: int) -> None:
    root = photos(tmp_path / "images", each=each)
    with pytest.raises(UserError, match=f"Class 'kind0' has {each} image.* at least 3"):
        dataset_info(f"folder:{root}", SIZE)


def test_forty_thousand_classes_are_split() -> None:
    labels = np.repeat(np.arange(40_000), 3)
    test, val, train = stratified_rows(labels, ("test", "val"), seed=0)
    assert len(test) == len(val) == len(train) == 40_000
    assert np.array_equal(labels[val], np.arange(40_000))


def test_thousands_of_class_folders_are_looked_at_once(tmp_path: Path) -> None:
    for label in range(2000):
        (tmp_path / f"{label:04}").mkdir()
        for number in range(3):
            (tmp_path / f"{label:04}" / f"{number}.png").touch()
    info = dataset_info(f"folder:{tmp_path}", SIZE)
    assert (info.classes, info.train_images) == (2000, 2000)
    assert dataset_info(f"folder:{tmp_path}", SIZE) == info


def test_weights_for_other_classes_are_one_sentence() -> None:
    made, asked = (
        get_vit_model("vit_tiny", classes, image_size=8, patch_size=4, depth=1, width=8, heads=1)
        for classes in (5, 3)
    )
    with pytest.raises(UserError, match="latest.pth tells 5 classes apart, the data has 3"):
        load_state(asked, made.state_dict(), "latest.pth")
    load_state(made, {k: torch.zeros_like(v) for k, v in made.state_dict().items()}, "latest.pth")
    assert not made.head.bias.any()


# -- which files are images of which class, in which part


def in_parts(root: Path, *parts: str, classes: int = 2, each: int = 10) -> Path:
    for part in parts:
        photos(root / part, classes=classes, each=each)
    return root


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        (("train", "val", "test"), (20, 20, 20)),
        (("Training", "valid", "testing"), (20, 20, 20)),
        (("train", "test"), (18, 2, 20)),
        (("train", "val"), (16, 20, 4)),
        (("train",), (14, 2, 4)),
    ],
)
def test_a_folder_in_parts_keeps_them_and_what_it_lacks_is_held_out_of_train(
    tmp_path: Path, parts: tuple[str, ...], sizes: tuple[int, int, int]
) -> None:
    root = in_parts(tmp_path / "images", *parts)
    data = load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    assert data.classes == ("kind0", "kind1")
    info = dataset_info(f"folder:{root}", SIZE)
    assert [info.train_images, info.validation_images] == list(sizes[:2])


def test_an_image_stays_in_its_part_under_its_label(tmp_path: Path) -> None:
    """Each part has a colour of its own, each class a shade; the test lacks the first class."""
    root = tmp_path / "images"
    for red, part in enumerate(("train", "val", "test")):
        for green in range(part == "test", 3):
            (root / part / f"kind{green}").mkdir(parents=True)
            colour = (80 * red, 80 * green, 0)
            Image.new("RGB", (9, 9), colour).save(root / part / f"kind{green}" / "one.png")
    data = load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
    for red, part in enumerate((data.train, data.val, data.test)):
        pixels = part.images_at(np.arange(len(part)))[:, :, 0, 0]
        assert pixels[:, 0].tolist() == [80 * red] * len(part)
        assert (pixels[:, 1] // 80).tolist() == part.labels.tolist()
    assert data.test.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("parts", "more", "sentence"),
    [
        (("val", "test"), (), "holds test, val, but no train. Name the folder above it"),
        (("train", "val", "valid"), (), "holds both val and valid. Keep one"),
        (("train", "val"), ("val/kind7",), "kind7 holds a class that is not among the training"),
    ],
)
def test_parts_that_do_not_agree_are_one_sentence(
    tmp_path: Path, parts: tuple[str, ...], more: tuple[str, ...], sentence: str
) -> None:
    root = in_parts(tmp_path / "images", *parts)
    for folder in more:
        (root / folder).mkdir()
    with pytest.raises(UserError, match=sentence):
        dataset_info(f"folder:{root}", SIZE)


def test_a_class_may_be_called_train_where_others_are_not_parts(tmp_path: Path) -> None:
    root = photos(tmp_path / "images")
    (root / "kind0").rename(root / "train")
    assert load_dataset(f"folder:{root}", SIZE, tmp_path / "data").classes == ("kind1", "train")


def test_files_that_are_no_images_are_counted_and_left_out(tmp_path: Path) -> None:
    root = photos(tmp_path / "images")
    (root / "kind0" / "notes.txt").write_text("taken in May")
    (root / "kind1" / ".hidden.png").write_text("not an image")
    for _ in range(2):  # decoded, then found again
        data = load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
        assert "1 file that no image's name ends like (.txt 1), 1 hidden file" in data.decided
        assert len(data.train) + len(data.val) + len(data.test) == 12


def test_an_image_behind_a_broken_link_is_one_sentence(tmp_path: Path) -> None:
    root = photos(tmp_path / "images")
    (root / "kind0" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"Cannot read 1 of 13 images: .*gone.png: No such file"):
        load_dataset(f"folder:{root}", SIZE, tmp_path / "data")


# -- stopped, killed and damaged while decoding


def test_decoding_stops_when_asked_to_and_leaves_nothing(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    root = photos(tmp_path / "images")
    with pytest.raises(Stopped):
        load_dataset(f"folder:{root}", SIZE, tmp_path / "data", between=stop)
    assert not list((tmp_path / "data" / "folders").iterdir())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    root, kept = photos(tmp_path / "images"), tmp_path / "data" / "folders"
    kept.mkdir(parents=True)
    abandoned, written = kept / f"a.npy1{STALE_SUFFIX}", kept / f"b.npy2{STALE_SUFFIX}"
    abandoned.touch()
    with written.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        load_dataset(f"folder:{root}", SIZE, tmp_path / "data")
        assert written.exists() and not abandoned.exists()
    (made,) = kept.glob("*.npy")
    assert made.stat().st_mode & 0o777 == file_mode()


def test_a_damaged_tiff_is_one_sentence(tmp_path: Path) -> None:
    """With a tag of the image's size gone, PIL's reader raises what is no OSError."""
    path = tmp_path / "damaged.tiff"
    Image.new("RGB", (20, 20)).save(path)
    content = path.read_bytes()
    height = content.index(b"\x01\x01\x04\x00")  # the tag ImageLength, a LONG
    path.write_bytes(content[:height] + b"\x02" + content[height + 1 :])
    with pytest.raises(UnreadableImage, match=r"damaged.tiff"):
        read_image(path, SIZE)


def test_a_path_that_is_no_text_is_one_sentence() -> None:
    with pytest.raises(UserError, match="is not UTF-8. Rename that file or folder"):
        whole_name("folder:/photos/\udcff")
