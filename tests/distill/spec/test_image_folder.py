"""What is decided from folders and names: parts, classes, images, and what is not used."""

from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.spec.image_folder import Layout, layout_of


def touched(root: Path, *names: str) -> Path:
    """Empty files; an ending of a slash makes a folder."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def by_class(*classes: str, each: int = 4, at: str = "") -> list[str]:
    return [f"{at}{label}/{number}.png" for label in classes for number in range(each)]


def sizes(layout: Layout) -> dict[str, list[int]]:
    return {
        part: [len(files) for files in by_label.values()] for part, by_label in layout.parts.items()
    }


IN_PARTS = [name for part in ("train/", "val/", "test/") for name in by_class("a", "b", at=part)]


def test_one_folder_a_class_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    layout = layout_of(touched(tmp_path, *by_class("a", "b")))
    assert layout.classes == ("a", "b")
    assert layout.decided == "val and test held out of the images to train on"


def test_parts_are_named(tmp_path: Path) -> None:
    assert layout_of(touched(tmp_path, *IN_PARTS)).decided == "parts train, val, test"


# -- folders beside parts


def test_a_copy_of_the_parts_beside_them_is_left_out_and_named(tmp_path: Path) -> None:
    """A zip that holds itself once more."""
    again = [f"chest_xray/{name}" for name in IN_PARTS]
    layout = layout_of(touched(tmp_path, *IN_PARTS, *again, "extra/readme.txt"))
    assert layout.classes == ("a", "b")
    assert list(sizes(layout).values()) == [[4, 4]] * 3
    assert layout.decided.endswith("ignored: chest_xray/ (nested copy), extra/ (no part)")


@pytest.mark.parametrize("other", ["chest_xray/train/a/1.png", "unlabelled/1.png"])
def test_one_part_alone_beside_another_folder_is_refused(tmp_path: Path, other: str) -> None:
    root = touched(tmp_path, *by_class("a", "b", at="train/"), other)
    with pytest.raises(UserError, match="holds train with folders in it, beside .* part of the"):
        layout_of(root)


def test_classes_may_be_called_as_parts_where_they_hold_images(tmp_path: Path) -> None:
    """Trains, tests and buses."""
    layout = layout_of(touched(tmp_path, *by_class("train", "test", "bus")))
    assert layout.classes == ("bus", "test", "train")


@pytest.mark.parametrize(
    "root_folders",
    [("2020/", "2021/"), ("fold1/", "fold2/", "fold3/"), ("train_images/", "test_images/")],
)
def test_classes_that_hold_the_same_folders_are_refused(
    tmp_path: Path, root_folders: tuple[str, ...]
) -> None:
    names = [name for at in root_folders for name in by_class("cat", "dog", at=at)]
    with pytest.raises(UserError, match=r"same folders \(cat, dog\): it is not clear which"):
        layout_of(touched(tmp_path, *names))


def test_parts_within_classes_are_refused(tmp_path: Path) -> None:
    names = [name for at in ("cat/", "dog/") for name in by_class("train", "test", at=at)]
    with pytest.raises(UserError, match=r"same folders \(test, train\)"):
        layout_of(touched(tmp_path, *names))


def test_folders_of_their_own_within_classes_are_read(tmp_path: Path) -> None:
    names = [*by_class("p1", "p2", at="benign/"), *by_class("p3", "p4", at="malignant/")]
    assert sizes(layout_of(touched(tmp_path, *names))) == {"train": [8, 8]}


def test_a_data_set_one_folder_further_down_is_named(tmp_path: Path) -> None:
    root = touched(tmp_path, *by_class("a", "b", at="archive/"))
    with pytest.raises(UserError, match=rf"holds 1 folder.*Did you mean {tmp_path}/archive\?"):
        layout_of(root)


# -- parts without labels


@pytest.mark.parametrize(("flat", "left"), [("test", "val"), ("val", "test")])
def test_a_part_without_class_folders_is_held_out_of_train_instead(
    tmp_path: Path, flat: str, left: str
) -> None:
    """As competitions give test images: without labels."""
    names = [name for at in ("train/", f"{left}/") for name in by_class("a", "b", at=at)]
    layout = layout_of(touched(tmp_path, *names, *(f"{flat}/{number}.png" for number in range(5))))
    assert set(layout.parts) == {"train", left}
    assert layout.decided == (
        f"parts train, {left}; {flat} held out of the images to train on; "
        f"ignored: {flat}/ (no class folders, 5 images)"
    )
    assert layout.train_images == 6


def test_an_empty_part_is_held_out_of_train_too(tmp_path: Path) -> None:
    layout = layout_of(touched(tmp_path, *by_class("a", "b", at="train/"), "test/", "val/"))
    assert set(layout.parts) == {"train"}
    assert "test/ (no class folders, 0 images)" in layout.decided


def test_train_without_class_folders_is_refused(tmp_path: Path) -> None:
    root = touched(tmp_path, "train/1.png", "test/1.png")
    with pytest.raises(UserError, match=r"train holds 0 folder\(s\); a classifier needs"):
        layout_of(root)


# -- which files are images


def test_hidden_copies_are_no_images(tmp_path: Path) -> None:
    """An editor's, a network drive's, a Mac's."""
    hidden = [
        *("a/.ipynb_checkpoints/0-checkpoint.png", "a/@eaDir/0.png/thumb.jpg", "a/._0.png"),
        *("__MACOSX/a/._0.png", ".DS_Store"),
    ]
    layout = layout_of(touched(tmp_path, *by_class("a", "b", each=8), *hidden))
    assert layout.classes == ("a", "b")
    assert sizes(layout) == {"train": [8, 8]}
    assert layout.decided.endswith("ignored: 2 hidden files, 3 hidden folders")


def test_other_endings_are_named_and_counted(tmp_path: Path) -> None:
    others = ["a/1.heic", "a/2.HEIC", "b/notes.txt", "b/deep/README"]
    layout = layout_of(touched(tmp_path, *by_class("a", "b"), *others))
    assert layout.decided.endswith(
        "4 files that no image's name ends like (.heic 2, .txt 1, no ending 1)"
    )


def test_images_beside_class_folders_are_counted(tmp_path: Path) -> None:
    layout = layout_of(touched(tmp_path, *by_class("a", "b"), "cover.png", "more.jpg"))
    assert layout.decided.endswith("ignored: 2 images outside of class folders")


def test_a_class_with_nothing_that_is_read_names_what_it_holds(tmp_path: Path) -> None:
    root = touched(tmp_path, *by_class("a"), "b/1.heic", "b/2.dcm")
    with pytest.raises(UserError, match=r"b holds no image .* Its files end in \.dcm, \.heic\."):
        layout_of(root)


@pytest.mark.parametrize("suffix", ["pgm", "jfif", "jpe", "avif", "PNM", "JP2", "dib"])
def test_less_common_endings_are_images(tmp_path: Path, suffix: str) -> None:
    layout = layout_of(touched(tmp_path, *by_class("a", "b"), f"b/more.{suffix}"))
    assert sizes(layout) == {"train": [4, 5]}


# -- links


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    elsewhere = touched(tmp_path / "elsewhere", *by_class("a", "b", each=8))
    root = touched(tmp_path / "root", *by_class("a", "b", each=3))
    for label in "ab":
        (root / label / "batch1").symlink_to(elsewhere / label)
    assert sizes(layout_of(root)) == {"train": [11, 11]}


def test_links_that_lead_back_are_seen(tmp_path: Path) -> None:
    """To the class itself, to the whole data set, and twice to one folder elsewhere."""
    elsewhere = touched(tmp_path / "elsewhere", "more/1.png")
    root = touched(tmp_path / "root", *by_class("a", "b"), "a/deep/1.png")
    for name, target in {
        "a/deep/again": root / "a",
        "a/all": root,
        "b/one": elsewhere,
        "b/two": elsewhere,
    }.items():
        (root / name).symlink_to(target)
    layout = layout_of(root)
    assert sizes(layout) == {"train": [5, 5]}
    assert "3 links that would lead back to what is read already" in layout.decided


def test_a_linked_class_is_a_class(tmp_path: Path) -> None:
    elsewhere = touched(tmp_path / "elsewhere", *by_class("kind"))
    root = touched(tmp_path / "root", *by_class("a"))
    (root / "b").symlink_to(elsewhere / "kind")
    assert layout_of(root).classes == ("a", "b")
