"""The claim of a run on its folder: it goes on only with the recipe and data it began with.

Starting over deletes here, after everything that can be refused has been. Trains nothing, loads
nothing. Its caller holds the lock of the folder.
"""

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distill.base.errors import UserError
from distill.base.files import unwritable, write_json
from distill.data.logits_file import logits_begun
from distill.spec.candidate import STAGES, StageName
from distill.spec.image_source import FOLDER_PREFIX, place_of
from distill.spec.recipe import Recipe
from distill.train.run_folder import (
    MANIFEST,
    RunManifest,
    document_differences,
    read_manifest,
    stage_has_begun,
)

SUMMARIES = ("accuracy.md", "accuracy.csv", "budget.csv", "curves.png", "unreadable.txt")
"""What a run leaves beside its stages."""

MOST_TOLD = 4
"""How many differing values a refusal lists."""

OF_A_STAGE = re.compile(r"^stage\.\d+\.")
"""What a value of one stage begins with in a list of differences."""


@dataclass(frozen=True, kw_only=True)
class FolderClaim:
    """A recipe that wants a folder, and the stages that are to be started over in it."""

    folder: Path
    recipe: Recipe
    started_over: Collection[StageName] = ()

    def check(self, data: Mapping[str, Any] | None = None) -> None:
        """Refuse a folder with a stage, not started over, of other values or other data.

        `data` is `content_of` the data, or `None` before it is loaded.
        """
        self._check_apart()
        kept = self._kept()
        changed = self._changed(data) if kept else []
        if not changed:
            return
        told = "; ".join(changed[:MOST_TOLD])
        if self.started_over:
            raise UserError(
                f"{self.folder} holds {', '.join(kept)}, begun with other values ({told}). "
                "Start all stages over with --stage all --fresh, or choose another folder "
                "with --out."
            )
        raise UserError(
            f"{self.folder} holds a run with other values ({told}). "
            f"Choose another folder with --out, or start over with --fresh.{self._teaches(changed)}"
        )

    def take(self, data: Mapping[str, Any], threads: int, *, insist: bool = False) -> int:
        """Delete what is started over, and mark the folder with this recipe, data and threads.

        Returns the threads that the run began with, or with `insist` those given: from here on
        they are the run's. Only what a run writes is deleted.
        """
        changed = self._changed(data)
        begins = bool(changed) or (bool(self.started_over) and not self._kept())
        for stage in STAGES if begins else self.started_over:
            _delete(self.folder / stage)
        there = None if begins else self._manifest()
        if there is not None and there.threads is not None and not insist:
            threads = there.threads
        if there is not None and there.data is not None and there.threads in (threads, None):
            return threads
        if there is None or there.data is None:
            for name in SUMMARIES:
                (self.folder / name).unlink(missing_ok=True)
        document = {
            "recipe": self.recipe.name,
            "values": self.recipe.model_dump(mode="json"),
            "data": dict(data),
            "threads": threads,
        }
        write_json(self.folder / MANIFEST, document)
        return threads

    def threads(self) -> int | None:
        """The threads that the run in the folder computes with, if it says so."""
        there = self._manifest()
        return None if there is None else there.threads

    def _manifest(self) -> RunManifest | None:
        return read_manifest(self.folder) if os.path.lexists(self.folder / MANIFEST) else None

    def _teaches(self, changed: Sequence[str]) -> str:
        """A sentence on the finished teacher, which can teach in another folder: hours are kept."""
        folder = self.folder / self.recipe.stage[0].name
        of_data = any(one.startswith(("data", "image_size", "stage.0.model")) for one in changed)
        if of_data or not (folder / "result.json").exists():
            return ""
        return (
            f" In another, the teacher that is finished here can teach: --teacher-weights {folder}."
        )

    def _check_apart(self) -> None:
        """Refuse a run in the folder of its images, or around it."""
        if not self.recipe.dataset.startswith(FOLDER_PREFIX):
            return
        run, images = self.folder.resolve(), place_of(self.recipe.dataset)
        if run.is_relative_to(images) or images.is_relative_to(run):
            raise UserError(
                f"The run in {run} and the images in {images} would lie in one another. "
                "Choose another folder for runs with --out."
            )

    def _kept(self) -> list[StageName]:
        """The stages with something to lose that are not to be started over."""
        return [
            stage
            for stage in STAGES
            if stage not in self.started_over
            and (stage_has_begun(self.folder / stage) or logits_begun(self.folder / stage))
        ]

    def _changed(self, data: Mapping[str, Any] | None) -> list[str]:
        there = self._manifest()
        if there is None:
            return []
        found = document_differences(there.values, self.recipe.model_dump(mode="json"))
        whole = {_named_and_new(one) for one in found if not OF_A_STAGE.match(one)}
        changed = [  # what changed for every stage is said once
            one
            for one in found
            if not OF_A_STAGE.match(one) or _named_and_new(OF_A_STAGE.sub("", one)) not in whole
        ]
        return changed if data is None else changed + data_differences(there, data)


def _named_and_new(difference: str) -> tuple[str, str]:
    """The name of the value that differs, and the value here."""
    return difference.partition(" ")[0], difference.rpartition(", ")[2]


def data_differences(manifest: RunManifest, data: Mapping[str, Any]) -> list[str]:
    """The differences of the data (`content_of`) from those that the run wrote down, if it did."""
    if manifest.data is None:
        return []
    return document_differences(manifest.data, dict(data), "data")


def stages_started_over(
    recipe: Recipe, wanted: StageName | Literal["all"]
) -> tuple[StageName, ...]:
    """The stage and those that it teaches, directly or through others; with `all`, every one."""
    if wanted == "all":
        return STAGES
    found: list[StageName] = [wanted]
    for stage in recipe.stage:  # each comes after the one that teaches it
        if stage.taught_by in found:
            found.append(stage.name)
    return tuple(found)


def _delete(folder: Path) -> None:
    """Remove a folder; its results first, so that half of one never counts as finished."""
    if not folder.exists():
        return
    try:
        for result in folder.rglob("result.json"):
            result.unlink()
        shutil.rmtree(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
