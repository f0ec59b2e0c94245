"""A list of images in a CSV file: what it may look like, and what is refused by its line."""

import os
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.base.errors import UserError
from distill.spec.candidate import STAGES
from distill.spec.catalog import dataset_info
from distill.spec.image_list import listed_layout
from distill.spec.image_source import image_layout, safe_name, whole_name

TIMES = count(1)
"""A list is read again when its time has changed."""

ROWS = [f"{label}{number}.png,{label}" for label in ("cat", "dog") for number in range(10)]


def written(folder: Path, *lines: str, header: str = "file,label", name: str = "l.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def sizes(path: Path) -> dict[str, list[int]]:
    layout = listed_layout(path)
    return {part: [len(of) for of in by_class.values()] for part, by_class in layout.parts.items()}


def test_file_and_label_are_enough(tmp_path: Path) -> None:
    path = written(tmp_path, *ROWS)
    layout = listed_layout(path)
    assert layout.classes == ("cat", "dog")
    assert layout.parts["train"]["cat"][0] == tmp_path / "cat0.png"
    assert layout.decided == "val and test held out of the images to train on"
    info = dataset_info(f"csv:{path}", 16)
    assert (info.classes, info.train_images, info.channels) == (2, 14, 3)


def test_a_split_says_the_part_of_each_image(tmp_path: Path) -> None:
    parts = ("train", "Training", "valid", "test", "train") * 4
    rows = [f"{row},{part}" for row, part in zip(ROWS, parts, strict=True)]
    path = written(tmp_path, *rows, header="file,label,split")
    assert sizes(path) == {"train": [6, 6], "val": [2, 2], "test": [2, 2]}
    assert listed_layout(path).decided == "parts train, val, test"


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("file;label", ";"), ("\ufeffFile, Label ", ","), ("label\tfile\tage", "\t")],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, header: str, delimiter: str) -> None:
    rows = [row.replace(",", delimiter) for row in ROWS]
    if header.startswith("label"):
        rows = [delimiter.join([*reversed(row.split(delimiter)), "7"]) for row in rows]
    path = written(tmp_path, *rows, "", header=header)
    assert sizes(path) == {"train": [10, 10]}
    assert ("columns age" in listed_layout(path).decided) == ("age" in header)


def test_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    rows = [f"{label}-{number}.png,{label}" for label in (10, 9, 1) for number in range(3)]
    assert listed_layout(written(tmp_path, *rows)).classes == ("1", "9", "10")


def test_an_image_that_comes_again_counts_once(tmp_path: Path) -> None:
    assert "1 line that comes again" in listed_layout(written(tmp_path, *ROWS, ROWS[0])).decided
    path = written(tmp_path, *ROWS, ROWS[0], "./cat1.png,cat")
    assert sizes(path) == {"train": [10, 10]}
    assert "ignored: 2 lines that come again" in listed_layout(path).decided


@pytest.mark.parametrize(
    ("lines", "header", "sentence"),
    [
        (ROWS, "image,label", "begins with 'image,label', which does not name the columns file"),
        ([], "", "does not name the columns file and label"),
        (ROWS, "file,label,file", "has column file twice"),
        ([*ROWS, "a.png"], "file,label", "line 22 has 1 columns, the first line names 2"),
        ([*ROWS, "a, b.png,cat"], "file,label", "Put names that hold a comma in quotes"),
        ([*ROWS, "a.png,"], "file,label", "line 22 has no label"),
        ([*ROWS, ",cat"], "file,label", "line 22 has no file"),
        ([*ROWS, "cat0.png,dog"], "file,label", r"as 'cat' \(line 2\) and as 'dog' \(line 22\)"),
        (ROWS[:10], "file,label", r"lists 1 class\(es\) to train on; .* at least two"),
        ([*ROWS, "a.png,fox"], "file,label", r"Class 'fox' has 1 image\(s\)"),
        ([f"{row},all" for row in ROWS], "file,label,split", "line 2: split 'all' is not known"),
        (
            [*(f"{row},train" for row in ROWS), "a.png,cat,"],
            "file,label,split",
            "line 22 names no split, as others do",
        ),
        (
            [*(f"{row},train" for row in ROWS), "a.png,fox,test"],
            "file,label,split",
            "lists class 'fox' in test, which is not among the images to train on",
        ),
        (
            [*(f"{row},train" for row in ROWS), "cat0.png,cat,test"],
            "file,label,split",
            r"in two parts \(lines 2 and 22\)",
        ),
        ([f"{row},test" for row in ROWS], "file,label,split", r"lists 0 class\(es\) to train on"),
        ([*ROWS, "a\0.png,cat"], "file,label", "line"),
    ],
)
def test_what_is_no_such_list_is_one_sentence(
    tmp_path: Path, lines: list[str], header: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        listed_layout(written(tmp_path, *lines, header=header))


def test_a_list_that_is_not_there_or_no_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no list of images"):
        image_layout(f"csv:{tmp_path}")
    (tmp_path / "l.csv").write_bytes(b"file,label\n\xff.png,a\n")
    with pytest.raises(UserError, match="no text in UTF-8"):
        image_layout(f"csv:{tmp_path / 'l.csv'}")


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_a_place_that_is_none_is_one_sentence(tmp_path: Path, kind: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place in ("a\0b", f"{tmp_path}/loop", f"{tmp_path}/{'x' * 300}"):
        with pytest.raises(UserError):
            image_layout(f"{kind}:{place}")


CELLS = st.sampled_from(
    ["a.png", "b.png", "cat", "dog", "train", "test", "", '"', "\r", "\0", "\u2028"]
)
LINES = st.lists(CELLS, max_size=4).map(",".join)


@given(st.sampled_from(["file,label", "label;file;split", "file,label,split"]), st.lists(LINES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_list_or_one_sentence(tmp_path: Path, header: str, lines: list[str]) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes("\n".join([header, *lines]).encode())
    os.utime(path, ns=(next(TIMES), next(TIMES)))
    try:
        layout = listed_layout(path)
    except UserError:
        return
    assert len(layout.classes) > 1 and "train" in layout.parts


def test_a_list_is_known_by_its_whole_path_and_its_run_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "xrays").mkdir()
    name = f"csv:{tmp_path}/xrays/../xrays/labels.csv"
    assert whole_name(name) == f"csv:{tmp_path.resolve()}/xrays/labels.csv"
    assert safe_name(name) == "xrays-labels"
    assert safe_name(name) not in STAGES
