"""Photos of the user's own beside the pixels that a recipe was made for.

Reads the headers of some files; decodes none.
"""

from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from distill.base.errors import UserError
from distill.base.reading import open_plain
from distill.data.images import DAMAGES
from distill.spec.image_source import image_layout, is_own
from distill.spec.recipe import Recipe

SAMPLED = 24
"""Files that are looked at, evenly over all."""

SMALL_PIXELS = 64
"""Below it a recipe is for small pictures, and of a photo little more than colours is left."""

MUCH = 2
"""So many times smaller is more than a little."""


def shorter_side_of(dataset: str) -> int | None:
    """The median of the shorter sides in pixels, of some images; `None` if none can be read."""
    parts = image_layout(dataset).parts.values()
    files = [path for part in parts for paths in part.values() for path in paths]
    places = np.linspace(0, len(files) - 1, min(len(files), SAMPLED)).astype(int)
    found = [side for place in places if (side := _side(files[place])) is not None]
    return round(median(found)) if found else None


def shrinking_told(recipe: Recipe, *, chosen: bool) -> str | None:
    """What is to be said of images that become very small; `None` where none do.

    `chosen` says that the user chose the pixels, for these images. Otherwise they are those that
    the recipe was made with for other data: images of the user's own are then refused, as a
    `UserError`.
    """
    if recipe.image_size >= SMALL_PIXELS:
        return None
    own = is_own(recipe.dataset)
    side = shorter_side_of(recipe.dataset) if own else recipe.dataset_info().source_size
    if side is None or side < MUCH * recipe.image_size or (chosen and not own):
        return None
    shrunk = (
        f"the images of {recipe.dataset} are about {side} pixels wide and become "
        f"{recipe.image_size}"
    )
    if chosen:
        return f"Note: {shrunk}."
    if not own:
        return (
            f"Note: {shrunk}, as recipe {recipe.name.partition(':')[0]} says. More: --image-size."
        )
    raise UserError(
        f"Recipe {recipe.name.partition(':')[0]} is for small pictures: {shrunk}. Say how many "
        f"they are to have with --image-size (--image-size {recipe.image_size} if that is meant), "
        "take a recipe with more, as cifar10_short, or write one for these images: distill init."
    )


def _side(path: Path) -> int | None:
    try:
        with open_plain(path) as stream, Image.open(stream) as opened:
            return min(opened.size)
    except (*DAMAGES, Image.DecompressionBombError):
        return None
