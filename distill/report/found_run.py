"""A run that is there, found by its folder: its recipe, its results, its tables. No torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.base.errors import UserError
from distill.base.nearest import did_you_mean_beside
from distill.base.units import mib
from distill.report.tables import Row, accuracy_rows, as_text, time_rows
from distill.spec.candidate import StageName
from distill.spec.profile import Choice
from distill.spec.recipe import Recipe, checked
from distill.train.run_folder import (
    MANIFEST,
    StageConfig,
    StageFolder,
    StageResult,
    read_config,
    read_manifest,
    read_result,
    stage_folder,
)

DEFAULT_OUT = Path("results")

MOST_RUNS = 8
"""That a sentence names."""


@dataclass(frozen=True, kw_only=True)
class FoundRun:
    """A run's folder and the recipe that it was made from."""

    folder: Path
    recipe: Recipe

    def stage_folders(self) -> list[StageFolder]:
        """One a stage of the recipe, finished or not."""
        return [stage_folder(self.folder, self.recipe, stage.name) for stage in self.recipe.stage]

    def results(self, stage: StageName | None = None) -> list[StageResult]:
        """The results of the finished stages, or of that one, of which there must be one."""
        found = [read_result(folder) for folder in self.stage_folders()]
        results = [result for result in found if result is not None]
        if stage is not None:
            self._check_trained_here(stage)
            results = [result for result in results if result.stage == stage]
            if not results:
                raise UserError(
                    f"Stage {stage} of {self.folder} is not finished. Go on with distill run."
                )
        if not results:
            raise UserError(f"No stage of {self.folder} is finished yet. Go on with distill run.")
        return results

    def _check_trained_here(self, stage: StageName) -> None:
        """Refuse a stage in whose place a teacher of the user's own stands, and an unknown one."""
        own = [one.own_teacher for one in self.recipe.stage if one.own_teacher is not None]
        if own and stage not in [one.name for one in self.recipe.stage]:
            known = ", ".join(one.name for one in self.recipe.stage)
            raise UserError(
                f"{self.folder} trained no {stage}: {own[0].weights} taught in its place. It "
                f"trained: {known}."
            )
        self.recipe.stage_named(stage)

    @property
    def titles(self) -> dict[StageName, str]:
        """Each stage's model, with its shape where that is not its own."""
        models = {
            stage.name: self.recipe.candidate(stage.name).student for stage in self.recipe.stage
        }
        return {name: model.title for name, model in models.items()}


def find_run(folder: Path | None) -> FoundRun:
    """The run in `folder`; without one, the only run below `results/`.

    Raises `UserError` where there is none, several, or one of another version.
    """
    if folder is None:
        runs = sorted(path.parent for path in DEFAULT_OUT.glob("*/*/run.json"))
        if len(runs) != 1:
            more = ", …" if len(runs) > MOST_RUNS else ""
            listing = f": {', '.join(map(str, runs[:MOST_RUNS]))}{more}" if runs else ""
            raise UserError(f"{DEFAULT_OUT}/ holds {len(runs)} runs{listing}. Name a run's folder.")
        folder = runs[0]
    if not folder.exists():
        raise UserError(f"There is no run {folder}.{did_you_mean_beside(folder, folder=True)}")
    if not (folder / MANIFEST).is_file():
        near = _runs_near(folder)
        raise UserError(f"{folder} is not a run's folder: it has no {MANIFEST}.{near}")
    return FoundRun(folder=folder, recipe=_recipe(folder))


def _runs_near(folder: Path) -> str:
    """The runs below a folder, or the one that it lies in, as a sentence."""
    around = folder.absolute().parent
    if (around / MANIFEST).is_file():
        return f" Name the run that it lies in: {folder.parent}."
    below = [str(path.parent) for path in sorted(folder.glob(f"*/*/{MANIFEST}"))]
    more = f" and {len(below) - MOST_RUNS:,} more" if len(below) > MOST_RUNS else ""
    return f" Below it: {', '.join(below[:MOST_RUNS])}{more}." if below else ""


def tables_text(run: FoundRun) -> str:
    """The run's tables: scores, and how each stage was trained."""
    results = run.results()
    tables = {
        "Scores on the untouched test images": accuracy_rows(results, run.titles),
        "How each stage was trained": memory_rows(run),
        "Where the time went": time_rows(results),
    }
    parts = [f"{title}\n\n{as_text(rows)}" for title, rows in tables.items() if rows]
    missing = [name for name in run.titles if name not in [one.stage for one in results]]
    if missing:
        parts.append(f"Not finished: {', '.join(missing)}. Go on with distill run.")
    return "\n\n".join(parts)


def scores_text(pairs: Sequence[tuple[StageResult, StageResult]]) -> str:
    """The table of `scores_rows`."""
    return as_text(scores_rows(pairs))


def scores_rows(pairs: Sequence[tuple[StageResult, StageResult]]) -> list[Row]:
    """One row a stage: the scores found now, and the accuracy that the run recorded."""
    return [
        {
            "stage": now.stage,
            "checkpoint": now.checkpoint,
            "accuracy %": f"{100 * now.test_accuracy:.2f}",
            "precision %": f"{100 * now.test_precision:.2f}",
            "recall %": f"{100 * now.test_recall:.2f}",
            "F1 %": f"{100 * now.test_f1_score:.2f}",
            "recorded accuracy %": f"{100 * then.test_accuracy:.2f}",
            "same": "yes" if same_scores(then, now) else "no",
        }
        for then, now in pairs
    ]


def same_scores(then: StageResult, now: StageResult) -> bool:
    """True if every score on the test images is the same number."""
    return then == now


def recorded_choices(run: FoundRun, target: str) -> list[Choice]:
    """The choices that finished stages were trained with for the card `target`."""
    configs = [stage_config(run, result.stage) for result in run.results()]
    return [c.choice for c in configs if c.choice is not None and c.target == target]


def memory_rows(run: FoundRun) -> list[Row]:
    """One row a finished stage: its configuration, and its memory where it was measured."""
    rows = []
    for result in run.results():
        candidate = stage_config(run, result.stage).candidate
        rows.append(
            {
                "stage": result.stage,
                "model": result.model,
                "images": f"{candidate.micro_batch} × {candidate.accumulation}",
                "precision": candidate.precision,
                "checkpointing": str(candidate.checkpointing),
                "optimizer": candidate.optimizer,
                "device": result.device,
                "measured peak MiB": mib(result.peak_reserved_bytes),
            }
        )
    return rows


def stage_config(run: FoundRun, stage: StageName) -> StageConfig:
    """The values a stage was trained with, as they were written beside its log."""
    return read_config(stage_folder(run.folder, run.recipe, stage))


def _recipe(folder: Path) -> Recipe:
    """The recipe as the run wrote it down."""
    return checked(json.dumps(read_manifest(folder).values), f"in {folder / MANIFEST}")
