"""Attention as figures: maps laid over the images as a model saw them, on one colour scale each.

A map's colours grow steadily lighter, so that it reads in grey. Its unit is an even share: 1 is as
much as if all patches were looked at alike. The scale begins at the lowest value; the few highest
may lie above its end.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from distill.base.errors import UserError
from distill.data.images import GREY
from distill.report.attention.maps import TokenLayout
from distill.report.figure import new_figure, save

Image = NDArray[np.float32]
"""(S, S, 3) or (S, S), between 0 and 1."""

MAP_COLOURS = colormaps["inferno"]
MAP_SHARE = 0.75
"""How much of a pixel is the map's colour; the rest is the image in grey."""

BRIGHTEST = 99.5
"""The percentile of all values at which the scale ends."""

LEAST_RANGE = 0.2
"""What the scale spans at least, so that what is nearly even looks so."""

LABEL = "attention (1 = even)"

PANEL_INCHES, PANEL_PIXELS = 1.6, 240
BAR_INCHES = 0.9
LINE_INCHES, LETTERS_AN_INCH = 0.17, 14
"""Of the title."""
COLUMNS = 6
"""Heads beside each other."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One square of a figure: an image, and the map (rows, columns) over it, if any."""

    title: str
    image: Image | None
    seen: NDArray[np.float32] | None = None


def visualize_attention_map(
    attention_weights: Tensor | NDArray[Any],
    image: Tensor | NDArray[Any],
    head_idx: int,
    save_path: str | Path,
    *,
    tokens: TokenLayout | None = None,
) -> None:
    """Draw one head of one layer over the image, beside the image, as a PNG file.

    `attention_weights` are (heads, tokens, tokens), `image` (C, S, S) between 0 and 1 or uint8, not
    normalised. Without `tokens` the patches are the largest square that the tokens hold, those
    before them prefix tokens, and the first of these the class token. Raises `UserError` for other
    shapes and for a head that is not there.
    """
    heads, shares = _seen_by_head(attention_weights, tokens)
    if not 0 <= head_idx < len(heads):
        raise UserError(f"There is no head {head_idx}: there are heads 0 to {len(heads) - 1}.")
    plain = shown_image(image)
    panels = [
        Panel(title="image", image=plain),
        Panel(title=head_title(head_idx, shares), image=plain, seen=heads[head_idx]),
    ]
    draw_panels(Path(save_path), [panels], f"Attention of head {head_idx}")


def visualize_multi_head_attention(
    attention_weights: Tensor | NDArray[Any],
    num_heads: int,
    save_path: str | Path,
    *,
    image: Tensor | NDArray[Any] | None = None,
    tokens: TokenLayout | None = None,
) -> None:
    """Draw the first `num_heads` heads of one layer as a grid, over the image if it is given.

    All on one colour scale; shapes and errors as of `visualize_attention_map`.
    """
    heads, shares = _seen_by_head(attention_weights, tokens)
    if not 1 <= num_heads <= len(heads):
        raise UserError(f"There are {len(heads)} heads, and {num_heads} are asked for.")
    plain = None if image is None else shown_image(image)
    draw_heads(Path(save_path), plain, heads[:num_heads], shares, "Attention by head")


def head_title(head: int, on_patches: NDArray[np.float32]) -> str:
    """A head's number, and how much of what it looks at is patches."""
    return f"head {head}\n{100 * float(on_patches[head]):.0f} % on patches"


def draw_heads(
    path: Path,
    image: Image | None,
    heads: NDArray[np.float32],
    on_patches: NDArray[np.float32],
    title: str,
) -> None:
    """The image and all heads (heads, rows, columns), in lines of at most `COLUMNS`."""
    panels = [] if image is None else [Panel(title="image", image=image)]
    panels += [
        Panel(title=head_title(number, on_patches), image=image, seen=seen)
        for number, seen in enumerate(heads)
    ]
    lines = ceil(len(panels) / COLUMNS)
    wide = ceil(len(panels) / lines)
    draw_panels(
        path, [panels[start : start + wide] for start in range(0, len(panels), wide)], title
    )


def draw_panels(path: Path, lines: Sequence[Sequence[Panel]], title: str) -> None:
    """Panels in lines, all maps on one scale with its bar, as a PNG file."""
    maps = [panel.seen for line in lines for panel in line if panel.seen is not None]
    scale = _scale(np.concatenate([seen.ravel() for seen in maps]))
    images = [panel.image for line in lines for panel in line if panel.image is not None]
    side = max([PANEL_PIXELS, *(len(image) for image in images)])
    text = max(panel.title.count("\n") + 1 for line in lines for panel in line)
    step, head = side + side // 16, side * text // 11 + side // 20  # to the next; for its title
    wide, gap = max(map(len, lines)), side // 32
    canvas = np.ones((len(lines) * (side + head) + gap, wide * step, 3))
    across, down = (PANEL_INCHES * length / side for length in (canvas.shape[1], len(canvas)))
    whole = across + BAR_INCHES
    told = "\n".join(fill(line, int(whole * LETTERS_AN_INCH)) for line in title.split("\n"))
    tall = down + LINE_INCHES * (told.count("\n") + 2)
    figure = new_figure(whole, tall)
    figure.set_layout_engine("none")  # the places are known, and finding them takes a second
    share, high = across / whole, down / tall
    axes = figure.add_axes((0, 0, share, high))
    axes.set_axis_off()
    for row, line in enumerate(lines):
        for column, panel in enumerate(line):
            top, left = row * (side + head) + head, column * step + gap
            canvas[top : top + side, left : left + side] = _square(panel, scale, side)
            _write(axes, left + side / 2, top - gap, panel.title)
    axes.imshow(canvas, aspect="auto")
    figure.suptitle(plain_text(told), fontsize=10, y=1 - 0.1 / tall)
    bar = figure.add_axes((share + 0.1 / whole, 0.06, 0.15 / whole, high - 0.12))
    _bar(figure, bar, scale)
    with warnings.catch_warnings():  # a name in a script that matplotlib's font does not have
        warnings.filterwarnings("ignore", message="Glyph")
        save(path, figure)


def shown_image(image: Tensor | NDArray[Any]) -> Image:
    """(C, S, S) as it is drawn: three channels in colour, others as grey."""
    values = torch.as_tensor(image).detach().cpu()
    if values.ndim != 3:
        raise UserError(f"An image of shape {tuple(values.shape)} is not (channels, S, S).")
    scale = 255.0 if values.dtype == torch.uint8 else 1.0
    pixels = (values.float() / scale).clamp(0, 1).permute(1, 2, 0).numpy()
    return pixels if pixels.shape[-1] == 3 else pixels.mean(axis=-1)


def plain_text(text: str) -> str:
    """Text that matplotlib does not read as a formula."""
    return text.replace("$", "\\$")


def _seen_by_head(
    weights: Tensor | NDArray[Any], tokens: TokenLayout | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(heads, rows, columns) of one layer and one image, and the share on patches (heads,)."""
    values = torch.as_tensor(weights).detach().float().cpu()
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    count = values.shape[-1]
    if values.ndim != 3 or values.shape[-2] != count:
        raise UserError(
            f"Attention of shape {tuple(values.shape)} is not (heads, tokens, tokens) of one image."
        )
    if tokens is None:
        side = int(count**0.5)
        asked = () if side * side == count else (0,)
        tokens = TokenLayout(prefix=count - side * side, rows=side, columns=side, asked=asked)
    if tokens.count != count:
        raise UserError(f"The attention is of {count} tokens, the layout of {tokens.count}.")
    return tokens.seen(values).numpy(), tokens.on_patches(values).numpy()


def _scale(values: NDArray[np.float32]) -> Normalize:
    """From the lowest value to all but the few highest; `Normalize.clip` says if there are such."""
    low, high = float(values.min()), float(np.percentile(values, BRIGHTEST))
    wider = max(0.0, LEAST_RANGE - (high - low)) / 2
    low, high = low - wider, high + wider
    return Normalize(low, high, clip=float(values.max()) > high)


def _square(panel: Panel, scale: Normalize, side: int) -> NDArray[np.float64]:
    """The panel as (side, side, 3): the image, or the map's colours over the image in grey."""
    image = np.full((1, 1), 0.5) if panel.image is None else panel.image
    plain = _enlarged(image if image.ndim == 3 else image[..., None].repeat(3, axis=-1), side)
    if panel.seen is None:
        return plain
    return _mixed(_enlarged(MAP_COLOURS(scale(panel.seen))[..., :3], side), plain @ GREY)


def _enlarged(pixels: NDArray[Any], side: int) -> NDArray[np.float64]:
    """(H, W, 3) → (side, side, 3), each place as the one that it lies in."""
    down, across = (np.arange(side) * there // side for there in pixels.shape[:2])
    return np.asarray(pixels[down][:, across], dtype=np.float64)


def _mixed(colours: NDArray[np.float64], grey: NDArray[np.float64]) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = MAP_SHARE * colours + (1 - MAP_SHARE) * grey[..., None]
    return mixed


def _write(axes: Axes, x: float, y: float, title: str) -> None:
    axes.text(x, y, plain_text(title), fontsize=7.5, ha="center", va="bottom", linespacing=1.0)


def _bar(figure: Figure, place: Axes, scale: Normalize) -> None:
    """The scale, its colours as they look over a middle grey."""
    colours = _mixed(MAP_COLOURS(np.linspace(0, 1, 256))[:, :3], np.full(256, 0.5))
    bar = figure.colorbar(
        ScalarMappable(scale, ListedColormap(colours)),
        cax=place,
        extend="max" if scale.clip else "neither",
    )
    bar.set_label(LABEL, fontsize=8)
    bar.ax.tick_params(labelsize=8)
