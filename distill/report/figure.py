"""Figures as PNG files: drawn without a screen and without matplotlib's global state."""

from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from distill.base.errors import UserError
from distill.base.files import check_output, write_whole

GREYS = colormaps["Greys"]
SHARES = colormaps["cividis_r"]
"""From light to dark, also in grey and for the colour-blind."""

LIMIT_COLOUR = "#c1440e"
"""Of what marks a limit; beside it stands a word or a hatch, so that it is told in grey too."""

FAR = 2.5
"""A limit of so many times the largest value would leave that a strip: it is told, not drawn."""

HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--", "")
"""One an owner of bytes, so that stacked parts are told apart in grey."""


MOST_NUMBERS = 6
"""Numbers along an axis."""


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure whose parts make room for each other."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def plain_numbers(axis: Any) -> None:
    """Give an axis a few numbers with thousands separated."""
    axis.set_major_locator(MaxNLocator(MOST_NUMBERS))
    axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))


def doublings(axis: Any) -> None:
    """Give a logarithmic axis plain numbers: 1, 2 and 5 in each decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def contrasting(colour: tuple[float, ...]) -> str:
    """Black or white, whichever is read better on a colour (WCAG 2.2, relative luminance)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour[:3]]
    luminance = sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "black" if luminance > 0.179 else "white"


def check_picture(path: Path) -> None:
    """Refuse a path that no picture can be written to, before anything is computed for it."""
    if not check_output(path) and path.suffix.lower() != ".png":
        raise UserError(f"{path} is no picture's name: it must end in .png.")


def save(path: Path, figure: Figure) -> None:
    """Write a figure whole."""
    write_whole(path, lambda stream: figure.savefig(stream, format="png", dpi=150))
