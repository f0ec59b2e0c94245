"""One image file of any kind as a square of 8-bit RGB. Draws nothing, keeps nothing.

What is there is made to fit where that is harmless: palettes and grey become RGB, transparent
places white, 16-bit grey is scaled to 8, of an animation the first picture is taken, a photo is
turned upright as its EXIF says. Floating-point pixels are refused: their scale is not known.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")

DAMAGES = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, MemoryError, struct.error, zlib.error),
)
"""What PIL's readers raise for a damaged file, depending on its format and the damage."""


class UnreadableImage(Exception):
    """An image file that can't be used, and why."""


def read_image(path: Path, image_size: int) -> tuple[NDArray[np.uint8], bool]:
    """The image as (3, S, S), and whether it was animated.

    The shorter side is resized to `image_size`, the middle of the longer kept. Raises
    `UnreadableImage`.
    """
    try:
        with Image.open(path) as opened:
            animated = getattr(opened, "n_frames", 1) > 1
            upright = ImageOps.exif_transpose(opened)
            fitted = ImageOps.fit(_rgb(upright), (image_size, image_size), Image.Resampling.BICUBIC)
    except (*DAMAGES, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{path}: {error}") from error
    return np.asarray(fitted, dtype=np.uint8).transpose(2, 0, 1), animated


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown scale")
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image, dtype=np.int64).clip(0, 65535)
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")
