"""The pictures of a stage and of a run: `attention_maps_*.png`."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.data.dataset import Split
from distill.report.attention.image_attention import ImageAttention, Shown
from distill.report.attention.pictures import Panel, draw_heads, draw_panels
from distill.report.class_report import shown as readable
from distill.spec.candidate import StageName

FEW = 4
"""Test images that the pictures at the end of a stage show."""

LINES = 6
"""Images in one picture; more go into the next."""

LONGEST_CAPTION = 26
"""Characters of a line above a panel."""

PREFIX = "attention_maps"
COMPARED = f"{PREFIX}_compared.png"


def few_test_images(test: Split, names: Sequence[str]) -> list[Shown]:
    """The first test images of a few classes, the same ones whenever they are asked for."""
    places = _few_places(test.labels)
    pixels = test.images_at(places)
    return [
        Shown(pixels=of, caption=f"test image {place}\nclass {_told(test.labels[place], names)}")
        for of, place in zip(pixels, places, strict=True)
    ]


def draw_stage(
    folder: Path, looks: Sequence[ImageAttention], shown: Sequence[Shown], title: str
) -> list[Path]:
    """A stage's two pictures: the rollouts of the images, and all heads for the first of them."""
    return [
        *draw_rollouts(folder, looks, shown, title),
        *draw_all_heads(folder, looks[:1], shown[:1], title, named=False),
    ]


def draw_rollouts(
    folder: Path, looks: Sequence[ImageAttention], shown: Sequence[Shown], title: str
) -> list[Path]:
    """Each image, and the rollout over all blocks."""
    lines = [
        [
            _plain(look, one),
            Panel(title=_short("rollout", look.answer), image=look.image, seen=look.rollout),
        ]
        for look, one in zip(looks, shown, strict=True)
    ]
    return _draw_lines(folder / f"{PREFIX}_rollout.png", lines, f"{title}\nattention rollout")


def draw_head(
    folder: Path, looks: Sequence[ImageAttention], shown: Sequence[Shown], title: str, head: int
) -> list[Path]:
    """Each image and one head over it."""
    layer = looks[0].layer
    lines = [
        [
            _plain(look, one),
            Panel(title=_short(look.answer), image=look.image, seen=look.heads[head]),
        ]
        for look, one in zip(looks, shown, strict=True)
    ]
    path = folder / f"{PREFIX}_block{layer}_head{head}.png"
    return _draw_lines(path, lines, f"{title}\nblock {layer}, head {head}")


def draw_all_heads(
    folder: Path,
    looks: Sequence[ImageAttention],
    shown: Sequence[Shown],
    title: str,
    *,
    named: bool,
) -> list[Path]:
    """A picture an image with all heads of the block; `named` puts the block into its name."""
    block = f"_block{looks[0].layer}" if named else ""
    paths = [folder / f"{PREFIX}{block}_heads{_place(number)}.png" for number in range(len(looks))]
    for path, look, one in zip(paths, looks, shown, strict=True):
        told = readable(", ".join(filter(None, [*one.caption.split("\n"), look.answer])))
        whole = f"{title}\nheads of block {look.layer}: {told}"
        draw_heads(path, look.image, look.heads, look.on_patches, whole)
    return paths


def draw_compared(
    path: Path,
    looks: Mapping[StageName, Sequence[ImageAttention]],
    shown: Sequence[Shown],
    title: str,
) -> list[Path]:
    """The rollouts of several models beside each other, each image in a line."""
    lines = [
        [
            _plain(next(iter(looks.values()))[place], one),
            *(
                Panel(
                    title=_short(stage, of[place].answer),
                    image=of[place].image,
                    seen=of[place].rollout,
                )
                for stage, of in looks.items()
            ),
        ]
        for place, one in enumerate(shown)
    ]
    return _draw_lines(path, lines, f"{title}: attention rollout\nof each stage's best checkpoint")


def _draw_lines(path: Path, lines: Sequence[Sequence[Panel]], title: str) -> list[Path]:
    """As many pictures as it takes; all but the first have a number in their names."""
    paths = [
        path.with_stem(f"{path.stem}{_place(number)}") for number in range(ceil(len(lines) / LINES))
    ]
    for number, one in enumerate(paths):
        draw_panels(one, lines[number * LINES : (number + 1) * LINES], title)
    return paths


def _place(number: int) -> str:
    return f"_{number + 1}" if number else ""


def _plain(look: ImageAttention, shown: Shown) -> Panel:
    return Panel(title=_short(*shown.caption.split("\n")), image=look.image)


def _short(*lines: str) -> str:
    """The lines that are not empty, none longer than a panel."""
    clean = [readable(line) for line in lines if line]
    return "\n".join(
        line if len(line) <= LONGEST_CAPTION else line[: LONGEST_CAPTION - 1] + "…"
        for line in clean
    )


def _few_places(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of a few images, of different classes where each image has one."""
    if labels.ndim == 2:
        return np.unique(np.linspace(0, len(labels) - 1, FEW).astype(np.int64))
    _, firsts = np.unique(labels, return_index=True)
    chosen = np.linspace(0, len(firsts) - 1, min(FEW, len(firsts))).astype(np.int64)
    return np.asarray(firsts[chosen], dtype=np.int64)


def _told(label: NDArray[np.int64], names: Sequence[str]) -> str:
    """The class of an image, or its classes, as text."""
    if label.ndim:
        there = [names[int(number)] for number in np.flatnonzero(label)]
        return ", ".join(there) or "none"
    return names[int(label)]
