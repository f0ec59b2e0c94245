"""One image file of any kind as a square of 8-bit RGB. Draws nothing, keeps nothing.

What is there is made to fit where that is harmless: palettes and grey become RGB, transparent
places white, of an animation the first picture is taken, a photo is turned upright as its EXIF
says. Grey of more than 8 bits is scaled by the value that is white, which `white_of` says for all
images of a set together. Pixels whose scale can't be known are refused.
"""

import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from distill.base.errors import UserError, in_short
from distill.base.reading import open_plain
from distill.spec.image_files import count_of

FORMATS = (
    *("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "AVIF"),
    *("TIFF", "PPM", "JPEG2000"),
)
"""PIL's readers of pixels; others start programs or read what is no picture."""

SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")

WHITE_OF_SIXTEEN_BITS = 2**16 - 1

DEPTHS = (8, 10, 12, 14, 16)
"""The bits of the values that cameras and scanners put into files of 16 bits."""

GREY = np.array([0.299, 0.587, 0.114])
"""What red, green and blue give to grey (ITU-R BT.601, as PIL's mode L)."""

DAMAGES = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, MemoryError, struct.error, zlib.error),
)
"""What PIL's readers raise for a damaged file, depending on its format and the damage."""


class UnreadableImage(Exception):
    """An image file that can't be used, and why."""


class UnknownScale(ValueError):
    """Pixels that could be shown in more than one way, in words."""


@dataclass(frozen=True)
class DeepValues:
    """The lowest and highest value in an image of more than 8 bits a channel.

    Of coloured ones PIL keeps the upper 8 bits; they are not to be scaled any more.
    """

    lowest: int
    highest: int
    coloured: bool


@dataclass(frozen=True)
class Picture:
    """`pixels` (3, S, S); `deep` is `None` for 8 bits, and where the file says its scale."""

    pixels: NDArray[np.uint8]
    animated: bool
    deep: DeepValues | None


def read_image(path: Path, image_size: int, white: int = WHITE_OF_SIXTEEN_BITS) -> Picture:
    """The image as (3, S, S), grey of more than 8 bits scaled so that `white` becomes 255.

    The shorter side is resized to `image_size`, the middle of the longer kept. Raises
    `UnreadableImage`.
    """
    try:
        Image.init()
        formats = [name for name in FORMATS if name in Image.OPEN]
        with open_plain(path) as stream, Image.open(stream, formats=formats) as opened:
            animated = getattr(opened, "n_frames", 1) > 1
            coloured = any(";16" in str(tile) for tile in opened.tile)
            upright = ImageOps.exif_transpose(opened)
            deep = None if opened.format == "PPM" else _deep(upright, coloured=coloured)
            rgb = _rgb(upright, white)
        fitted = ImageOps.fit(rgb, (image_size, image_size), Image.Resampling.BICUBIC)
    except (*DAMAGES, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{path}: {_reason(error)}") from error
    pixels = np.asarray(fitted, dtype=np.uint8).transpose(2, 0, 1)
    return Picture(pixels, animated, deep)


def _reason(error: Exception) -> str:
    """Why a file can't be read, in plain words; PIL's own where there are none."""
    words = in_short(error)
    if isinstance(error, UnknownScale):
        return words
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        return "it holds no picture of a known kind"
    if isinstance(error, Image.DecompressionBombError):
        return "it claims to have more pixels than are read"
    if isinstance(error, MemoryError):
        return "there is no memory left to read it"
    if "truncated" in words.lower() or isinstance(error, EOFError):
        return "the file ends before its picture does"
    return f"its picture is damaged ({words})" if words else "its picture is damaged"


def to_grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 3, S, S) in colour as (N, 1, S, S)."""
    mixed = np.einsum("nchw,c->nhw", pixels.astype(np.float32), GREY.astype(np.float32))
    grey: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)[:, None]
    return grey


def white_of(found: Collection[DeepValues]) -> int:
    """The value that is white in all the grey images of a set.

    That of the smallest depth that holds their highest value: 16-bit files often hold 12 bits.
    Raises `UserError` where no such depth is known: values below 0 or beyond 16 bits (as
    Hounsfield units have), and colours in a part of their range.
    """
    lowest = min(values.lowest for values in found)
    highest = max(values.highest for values in found)
    if lowest < 0 or highest > WHITE_OF_SIXTEEN_BITS:
        raise UserError(
            f"{len(found):,} of the images hold grey values from {lowest:,} to {highest:,}, whose "
            "scale is not known. Choose which value is black and which is white, and save them "
            "with 8 bits, or with 16 bits from 0 to 65,535."
        )
    colours = [values.highest for values in found if values.coloured]
    if colours and max(colours) < WHITE_OF_SIXTEEN_BITS // 4:
        raise UserError(
            f"{len(colours):,} of the images hold colours of 16 bits of which the highest is about "
            f"{max(colours):,}: their scale is not known. Save them with 8 bits, or with values "
            "up to 65,535."
        )
    grey = [values.highest for values in found if not values.coloured]
    depth: int = next(bits for bits in DEPTHS if max(grey, default=0) < 2**bits)
    return (1 << depth) - 1


def scale_told(grey: Collection[DeepValues], white: int) -> str:
    """What was decided about the scale of these images, as a note."""
    lowest, highest = min(one.lowest for one in grey), max(one.highest for one in grey)
    return (
        f"{count_of(len(grey), 'grey image')} of more than 8 bits: values from {lowest:,} to "
        f"{highest:,}, read as {white.bit_length()} bits ({white:,} is white)."
    )


def _deep(image: Image.Image, *, coloured: bool) -> DeepValues | None:
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image)
        return DeepValues(int(values.min()), int(values.max()), coloured=False)
    if not coloured:
        return None
    upper = np.asarray(image.convert("RGB"))
    return DeepValues(257 * int(upper.min()), 257 * int(upper.max()), coloured=True)


def _rgb(image: Image.Image, white: int) -> Image.Image:
    if image.mode == "F":
        raise UnknownScale("its pixels are floating-point numbers of unknown scale")
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image, dtype=np.int64).clip(0, white)
        image = Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white_paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white_paper, with_alpha).convert("RGB")
    return image.convert("RGB")
