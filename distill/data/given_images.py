"""Images that a command line names, without labels: found, and read as a run's images were."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.base.console import say
from distill.base.errors import UserError
from distill.base.nearest import did_you_mean_beside
from distill.data.decoded import first_reasons
from distill.data.images import (
    WHITE_OF_SIXTEEN_BITS,
    Picture,
    UnreadableImage,
    read_image,
    scale_told,
    to_grey,
    white_of,
)
from distill.spec.image_files import all_below


def find_images(places: Sequence[Path], most: int) -> list[Path]:
    """The files that are named, and the images below the folders that are.

    Raises `UserError` for a place that is not there, a folder without images, and more than `most`.
    """
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            below = all_below(place, place).images
            if not below:
                raise UserError(f"{place} holds no image. Name images, or a folder with some.")
            files += below
        elif place.exists():
            files.append(place)
        else:
            raise UserError(f"There is no image or folder {place}.{did_you_mean_beside(place)}")
    if len(files) > most:
        raise UserError(f"These are {len(files):,} images; name at most {most:,} at a time.")
    return files


def read_images(files: Sequence[Path], source_size: int, channels: int) -> NDArray[np.uint8]:
    """The images (N, channels, source_size, source_size), the shorter side resized to that size.

    Grey of more than 8 bits is scaled alike in all of them, by their own values, which is told.
    Raises `UserError` for files that can't be read, and for values of unknown scale.
    """
    pictures = _read_all(files, source_size)
    if deep := [picture.deep for picture in pictures if picture.deep is not None]:
        white = white_of(deep)
        pictures = _read_all(files, source_size, white)
        if grey := [values for values in deep if not values.coloured]:
            say(f"  data  {scale_told(grey, white)}")
    pixels = np.stack([picture.pixels for picture in pictures])
    return to_grey(pixels) if channels == 1 else pixels


def _read_all(
    files: Sequence[Path], size: int, white: int = WHITE_OF_SIXTEEN_BITS
) -> list[Picture]:
    """All images. Raises `UserError` with those that can't be read, a few of them by name."""
    pictures, unreadable = [], []
    for path in files:
        try:
            pictures.append(read_image(path, size, white))
        except UnreadableImage as error:
            unreadable.append(str(error))
    if len(unreadable) == 1:
        raise UserError(f"Cannot read {unreadable[0]}. Replace it, or leave it out.")
    if unreadable:
        raise UserError(
            f"Cannot read {len(unreadable):,} of {len(files):,} images: "
            f"{first_reasons(unreadable)}. Replace them, or leave them out."
        )
    return pictures
