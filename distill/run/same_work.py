"""Processes that train together are refused unless all were asked for the same work.

Each is started by a command of its own, perhaps on another machine, where a file, the images or
the version may differ. Processes that differ would train a wrong model, or wait for each other for
ever. So they compare before the first update.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from distill.base.digest import file_digest, source_digest
from distill.base.errors import UserError
from distill.device.fingerprint import machine_without_card
from distill.run.request import RunRequest
from distill.train.run_folder import MANIFEST, StageResult, document_differences

SOURCES = ("distill.data", "distill.step", "distill.train", "distill.run")
"""What decides which updates there are, and what is said between them."""

MOST_TOLD = 4
"""How many differing values a refusal lists."""


def check_same_work(request: RunRequest) -> None:
    """Refuse, as a `UserError` in every process, processes that were asked for different work."""
    if request.ranks.world_size == 1:
        return
    found = request.ranks.all_gather(_asked(request))
    for place, other in enumerate(found):
        differences = document_differences(found[0], other)
        if differences:
            raise UserError(
                f"Process {place} of {len(found)} is asked for other work than process 0 "
                f"({'; '.join(differences[:MOST_TOLD])}). Start each with the same command, "
                "files and versions."
            )


def check_same_data(
    request: RunRequest,
    content: Mapping[str, Any] | None,
    results: Sequence[StageResult | None],
) -> None:
    """Refuse processes that see another folder, or other images, than the first one.

    `content` is `content_of` the images, `results` those of the stages that were asked for. The
    first process has marked the folder.
    """
    if request.ranks.world_size == 1:
        return
    mark = request.folder / MANIFEST
    folder = mark.read_text() if mark.is_file() else None, [one is None for one in results]
    folders = request.ranks.all_gather(folder)
    if any(other != folders[0] for other in folders):
        raise UserError(
            f"The processes of this run find different things in {request.folder}. Give all of "
            "them the same folder: --out on a file system that the machines share."
        )
    contents = request.ranks.all_gather(None if content is None else dict(content))
    for place, other in enumerate(contents):
        if other != contents[0]:
            told = "; ".join(document_differences(contents[0], other))
            raise UserError(
                f"Process {place} of {len(contents)} finds other images than process 0 "
                f"({told}). Give each machine the same --data-dir or dataset."
            )


def _asked(request: RunRequest) -> dict[str, Any]:
    """What decides the work. A file counts by what it holds, for it may lie elsewhere."""
    recipe = request.recipe.model_dump(mode="json")
    for stage in recipe["stage"]:
        own = request.recipe.own_teacher_of(stage["name"])
        if own is not None:
            stage["own_teacher"]["weights"] = file_digest(own.weights)
    profile = request.profile
    return {
        "recipe": recipe,
        "stage": request.stage,
        "profile": None if profile is None else profile.model_dump(mode="json"),
        "weights": {name: file_digest(path) for name, path in request.weights.items()},
        "device": request.device.type,
        "compiled": request.compiles,
        **asdict(request.overrides),
        **asdict(machine_without_card()),
        "source": source_digest(SOURCES),
    }
