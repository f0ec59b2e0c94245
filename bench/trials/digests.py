"""Hashes of the source that decides a prediction or a measurement.

An edit of that source makes the trials of before count as not done; an edit elsewhere does not.
"""

from distill.base.digest import source_digest
from distill.device.fingerprint import UPDATE_SOURCES


def prediction_digest() -> str:
    """A hash of the source that decides what is predicted: another source, another prediction."""
    return source_digest((*UPDATE_SOURCES, "bench.simulate"))


def measurement_digest(*sources: str) -> str:
    """A hash of the source that decides what is measured and how, with further `sources`."""
    return source_digest((*UPDATE_SOURCES, "bench.measure", *sources))
