"""A test's scores by class as files, whatever the classes are called."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.report.class_report import mistakes_of, write_class_report
from distill.train.class_scores import ClassScores, class_scores
from distill.train.metrics import Tally

STRANGE = ("a|b", "$x_1$", "猫", "caf\udce9", "two\nlines")


def scores(names: tuple[str, ...], *, several: bool = False) -> ClassScores:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % len(names)
    if several:
        labels = torch.nn.functional.one_hot(labels, len(names))
    logits = torch.randn(200, len(names), generator=generator)
    found = Tally()
    found.add(torch.tensor(1.0), logits, labels)
    return class_scores(found, names)


def test_names_that_no_format_likes_are_written_all_the_same(tmp_path: Path) -> None:
    write_class_report(tmp_path, scores(STRANGE), "student $of$ a|b")
    with (tmp_path / "confusion.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["true class", "a|b", "$x_1$", "猫", "caf?", "two?lines"]
    assert sum(int(cell) for row in rows for cell in row[1:]) == 200
    text = (tmp_path / "classes.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in lines]
    assert bars == [9] * 7 + [7] * 7
    with Image.open(tmp_path / "confusion.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert (pixels.max(axis=2) - pixels.min(axis=2)).max() < 8  # reads in grey


@pytest.mark.slow
def test_many_classes_have_their_commonest_mistakes_written_out(tmp_path: Path) -> None:
    found = scores(tuple(f"class {number}" for number in range(50)))
    write_class_report(tmp_path, found, "student")
    text = (tmp_path / "classes.md").read_text()
    assert "The 20 commonest mistakes (all of them: confusion.csv)" in text
    assert len((tmp_path / "confusion.csv").read_text().splitlines()) == 51
    assert found.confusion is not None
    true, answer, count = mistakes_of(found.confusion, 20)[0]
    assert true != answer
    assert f"| class {true} " in text and count == max(
        c for *_, c in mistakes_of(found.confusion, 9)
    )


@pytest.mark.parametrize("names", [("yes", "no"), tuple(f"finding {n}" for n in range(14))])
def test_with_several_labels_no_class_is_taken_for_another(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    write_class_report(tmp_path, scores(names, several=True), "student")
    assert {path.name for path in tmp_path.iterdir()} == {
        "classes.csv",
        "classes.md",
        "confusion.png",
    }
    with (tmp_path / "classes.csv").open(newline="") as stream:
        assert [row["class"] for row in csv.DictReader(stream)] == list(names)
