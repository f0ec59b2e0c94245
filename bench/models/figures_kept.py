"""Figures of models on disk, so that a comparison is made once. Always safe to delete.

Beside the traces, a file a model, keyed by all that its figures depend on. What can't be trusted is
told and made again, and a cache that can't be written is not used. Loads no torch.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from bench.models.compared_models import Comparison
from bench.models.model_figures import ModelFigures
from distill.base.console import say
from distill.base.digest import source_digest
from distill.base.errors import DistillError, UserError
from distill.base.files import write_json
from distill.device.fingerprint import UPDATE_SOURCES
from distill.spec.candidate import Candidate
from distill.spec.validated import read_as

FOLDER = "six-gig-distill/models"


def known_models(plan: Comparison) -> list[ModelFigures | None]:
    """Each model's figures as they were kept, `None` where there are none."""
    return [read_figures(_path(plan, cells), cells) for cells in plan.models]


def compared(plan: Comparison) -> list[ModelFigures]:
    """Each model's figures, those that are not kept predicted, and then kept.

    Raises `UserError` for a model that can't be built.
    """
    found = dict(zip(plan.models, known_models(plan), strict=True))
    missing = [cells for cells, figures in found.items() if figures is None]
    if missing:
        from bench.models.predict_models import predict_models  # torch, not needed if all is kept

        for figures in predict_models(plan, missing):
            cells = tuple(cell.candidate for cell in figures.cells)
            found[cells] = figures
            keep(plan, figures)
    return [figures for figures in found.values() if figures is not None]


def keep(plan: Comparison, figures: ModelFigures) -> None:
    """Keep a model's figures, if the place can be written."""
    cells = [cell.candidate for cell in figures.cells]
    with suppress(DistillError):
        write_json(_path(plan, cells), asdict(figures))


def read_figures(path: Path, cells: Sequence[Candidate]) -> ModelFigures | None:
    """The figures of those cells in a file; `None` where there are none that can be trusted."""
    if not os.path.lexists(path):
        return None
    try:
        figures = read_as(ModelFigures, path)
        if tuple(cell.candidate for cell in figures.cells) != tuple(cells):
            raise UserError(f"{path} is of another model.")
    except UserError as error:
        say(f"  {error} Predicted anew.")
        return None
    return figures


def _path(plan: Comparison, cells: Sequence[Candidate]) -> Path:
    """The file of a model's figures, there or not."""
    sources = (*UPDATE_SOURCES, "bench.simulate", "bench.models.predict_models")
    key = {
        "cells": [asdict(cell) for cell in cells],
        "first": plan.precision,
        "target": plan.target.model_dump(mode="json"),
        "allocator": plan.allocator,
        "limit_bytes": plan.limit_bytes,
        "source": f"{source_digest(sources)} {version('torch')} {version('timm')}",
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / FOLDER / f"{digest[:32]}.json"
