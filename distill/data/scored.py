"""Images of the user's own, in any folder or list, under the class numbers of a finished run."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.base.errors import UserError
from distill.data.dataset import Split
from distill.data.decoded import Decoder
from distill.data.folder import cache_prefix, without
from distill.data.images import to_grey
from distill.data.load import load_dataset
from distill.spec.catalog import dataset_info
from distill.spec.image_files import listed
from distill.spec.image_source import is_own
from distill.spec.image_test import images_to_score

AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class ScoredImages:
    """Images with a run's class numbers, and what the user should know of them."""

    images: Split
    notes: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


def load_scored(
    name: str,
    classes: Sequence[str],
    *,
    channels: int,
    image_size: int,
    data_dir: Path,
    skip_unreadable: bool,
) -> ScoredImages:
    """The images of `folder:DIR` or `csv:FILE`, or the test images of a data set that is known.

    Raises `UserError` for classes that the run does not know, and images that can't be read.
    """
    if not is_own(name):
        return _known(name, classes, channels=channels, image_size=image_size, data_dir=data_dir)
    found = images_to_score(name)
    names = {label: _name_in_run(label, classes) for label in found.by_class}
    foreign = [label for label, name in names.items() if name not in classes]
    if foreign:
        raise UserError(
            f"{name} holds images of {listed(foreign)}, which the run does not know. Its classes "
            f"are {listed(classes)}."
        )
    decoder = Decoder(
        image_size=image_size,
        folder=data_dir / "folders",
        prefix="scored-" + cache_prefix(name, image_size),
        skip_unreadable=skip_unreadable,
    )
    pixels, findings = decoder.decode([path for of in found.by_class.values() for path in of])
    labels = _labels({label: len(of) for label, of in found.by_class.items()}, names, classes)
    images = without(Split(pixels, labels, np.arange(len(labels))), findings)
    notes = [found.decided, *findings.notes]
    if channels == 1:
        images = Split(_grey(images), images.labels)
        notes.append("made grey, as the images are that the run was trained on.")
    if absent := [label for label in classes if label not in names.values()]:
        notes.append(f"no image of {listed(absent)}.")
    left_out = tuple(reason for _, reason in findings.unreadable)
    return ScoredImages(images=images, notes=tuple(notes), unreadable=left_out)


def _name_in_run(label: str, classes: Sequence[str]) -> str:
    """The run's name of a class: some systems store é as one character, others as two."""
    if label in classes:
        return label
    alike = {unicodedata.normalize("NFC", one): one for one in classes}
    return alike.get(unicodedata.normalize("NFC", label), label)


def _labels(
    counts: Mapping[str, int], names: Mapping[str, str], classes: Sequence[str]
) -> NDArray[np.int64]:
    """The run's class number of every file, of which a class has so many."""
    numbers = np.array([classes.index(names[label]) for label in counts], dtype=np.int64)
    return numbers.repeat(list(counts.values()))


def _known(
    name: str, classes: Sequence[str], *, channels: int, image_size: int, data_dir: Path
) -> ScoredImages:
    """The test images of a data set that the catalog knows, if its classes are the run's."""
    info = dataset_info(name, image_size)
    data = load_dataset(name, image_size, data_dir)
    if data.classes != tuple(classes) or info.channels != channels:
        raise UserError(
            f"{name} has images of {info.channels} channel(s) of {listed(data.classes)}; the run "
            f"was trained on {channels} channel(s) and {listed(classes)}."
        )
    return ScoredImages(images=data.test, notes=(f"the test images of {name}",))


def _grey(images: Split) -> NDArray[np.uint8]:
    """(N, 1, S, S) of the colours."""
    size = images.images.shape[-1]
    grey = np.empty((len(images), 1, size, size), dtype=np.uint8)
    for start in range(0, len(images), AT_ONCE):
        places = np.arange(start, min(start + AT_ONCE, len(images)))
        grey[places] = to_grey(images.images_at(places))
    return grey
