"""Figures as PNG files: drawn without a screen and without matplotlib's global state."""

from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from distill.base.errors import UserError
from distill.base.files import check_output, write_whole

GREYS = colormaps["Greys"]

HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--", "")
"""One an owner of bytes, so that stacked parts are told apart in grey."""


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure whose parts make room for each other."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def check_picture(path: Path) -> None:
    """Refuse a path that no picture can be written to, before anything is computed for it."""
    if not check_output(path) and path.suffix.lower() != ".png":
        raise UserError(f"{path} is no picture's name: it must end in .png.")


def save(path: Path, figure: Figure) -> None:
    """Write a figure whole."""
    write_whole(path, lambda stream: figure.savefig(stream, format="png", dpi=150))
