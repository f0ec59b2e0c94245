"""The parts of a report that a run's folder gives: scores, curves, classes, attention, times."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.predict.claims import load_claims
from bench.report.parts import (
    ReportPart,
    ReportPicture,
    ReportTable,
    VerdictAnswer,
    drawn,
    found_picture,
)
from distill.base.errors import UserError
from distill.base.reading import read_text
from distill.base.units import duration
from distill.report.attention.drawn import COMPARED, PREFIX
from distill.report.class_report import CONFUSION, PICTURE, SCORES, class_rows
from distill.report.curves import draw_curves
from distill.report.found_run import FoundRun, memory_rows
from distill.report.tables import (
    ACCURACY_TITLE,
    Row,
    accuracy_rows,
    accuracy_text,
    time_rows,
)
from distill.spec.candidate import StageName
from distill.train.class_scores import ClassScore
from distill.train.run_folder import StageFolder, StageResult

CLAIMED_DATA = "cifar10"
"""What the write-up's accuracies are claimed for."""

NO_RUN = "No run is in this report. distill run trains one; --run names its folder."


def run_parts(run: FoundRun) -> list[ReportPart]:
    """All parts of a run, of which at least one stage is finished."""
    return [
        _accuracy(run),
        _curves(run),
        _classes(run),
        _attention(run),
    ]


def how_good(run: FoundRun | None) -> VerdictAnswer:
    """The last stage's accuracy, and each stage's."""
    if run is None:
        return VerdictAnswer(question="How good?", short="not trained yet", sentences=[NO_RUN])
    results = run.results()
    told = [
        f"{one.stage}: {accuracy_text(one.test_accuracy, one.test_images)} % on "
        f"{one.test_images:,} test images (measured)"
        for one in results
    ]
    open_ = [one.name for one in run.recipe.stage if one.name not in {r.stage for r in results}]
    if open_:
        told.append(f"Not finished: {', '.join(open_)}. distill run goes on with it.")
    last = results[-1]
    return VerdictAnswer(
        question="How good?",
        short=f"{last.stage} {accuracy_text(last.test_accuracy, last.test_images)} %",
        sentences=told,
    )


def trained_in(results: Sequence[StageResult]) -> list[str]:
    """How long training took, of all stages and of each."""
    whole = duration(sum(one.train_seconds for one in results))
    stages = "; ".join(
        f"{one.stage} {duration(one.train_seconds)}, {one.epochs} epochs on {one.device}"
        for one in results
    )
    return [f"Trained in {whole} (measured): {stages}."]


def _accuracy(run: FoundRun) -> ReportPart:
    results = run.results()
    source = f"{run.folder}/*/result.json; measured on the untouched test images"
    tables = [
        ReportTable(
            title="Scores on the untouched test images",
            rows=_beside_claims(run, accuracy_rows(results, run.titles)),
            source=source,
        ),
        ReportTable(
            title="How each stage was trained", rows=memory_rows(run), source=f"{run.folder}/*/logs"
        ),
    ]
    if times := time_rows(results):
        tables.append(ReportTable(title="Where the time went", rows=times, source=source))
    return ReportPart(title="Accuracy by stage", sentences=[_about_claims(run)], tables=tables)


def _beside_claims(run: FoundRun, rows: Sequence[Row]) -> list[Row]:
    if run.recipe.dataset != CLAIMED_DATA:
        return list(rows)
    claimed = {claim.id: f"{100 * claim.middle:g}" for claim in load_claims()}
    origin = "pretrained" if run.recipe.pretrained else "scratch"
    beside = []
    for row in rows:
        whole = dict(row)
        parts = list(whole.items())
        place = list(whole).index(ACCURACY_TITLE) + 1
        claim = ("claimed %", claimed.get(f"acc.{origin}.{row['stage']}", "–"))
        beside.append(dict([*parts[:place], claim, *parts[place:]]))
    return beside


def _about_claims(run: FoundRun) -> str:
    if run.recipe.dataset == CLAIMED_DATA:
        return (
            "Claimed are the write-up's figures, which it did not measure: of ViT-Base, ViT-Small "
            "and ViT-Tiny after 100 epochs pretrained or 200 from scratch."
        )
    return (
        f"The write-up claims accuracies of CIFAR-10 alone, so that none stands beside a run on "
        f"{run.recipe.dataset}. The audit below has them."
    )


def _curves(run: FoundRun) -> ReportPart:
    logs = {folder.root.name: folder.log for folder in run.stage_folders() if folder.log.exists()}
    by_stage = {stage.name: logs[stage.name] for stage in run.recipe.stage if stage.name in logs}
    kept = {result.stage: result.best_epoch for result in run.results()}
    return ReportPart(
        title="Learning curves",
        pictures=drawn(
            "Loss and accuracy by epoch, of training and validation",
            f"{run.folder}/*/logs/*_log.csv; measured",
            lambda path: draw_curves(path, by_stage, kept),
        ),
    )


def _classes(run: FoundRun) -> ReportPart:
    tables: list[ReportTable] = []
    pictures: list[ReportPicture] = []
    for stage, folder in _finished(run):
        places = class_files(folder)
        if places is None:
            continue
        tables.append(
            ReportTable(
                title=f"Scores by class, {stage}",
                rows=class_rows(read_class_scores(places / SCORES)),
                source=f"{places / SCORES}; measured",
            )
        )
        if (places / PICTURE).is_file():
            beside = f" ({places / CONFUSION})" if (places / CONFUSION).is_file() else ""
            pictures += found_picture(
                f"Which class was taken for which, {stage}",
                f"{places / PICTURE}{beside}; measured",
                places / PICTURE,
            )
    missing = None if tables else "This run kept no scores by class: distill evaluate --to DIR."
    return ReportPart(title="Scores by class", tables=tables, pictures=pictures, missing=missing)


def _attention(run: FoundRun) -> ReportPart:
    pictures: list[ReportPicture] = []
    for _, folder in _finished(run):
        for path in sorted(folder.visualizations.glob(f"{PREFIX}_*.png")):
            title = f"{folder.root.name}: {path.stem.removeprefix(PREFIX).strip('_')}"
            pictures += found_picture(title.replace("_", " "), str(path), path)
    compared = run.folder / COMPARED
    if compared.is_file():
        title = "The stages on the same images"
        pictures = [*found_picture(title, str(compared), compared), *pictures]
    missing = None if pictures else f"No attention maps lie there: distill attention {run.folder}."
    return ReportPart(title="Attention", pictures=pictures, missing=missing)


def _finished(run: FoundRun) -> Iterator[tuple[StageName, StageFolder]]:
    done = {result.stage for result in run.results()}
    for stage, folder in zip(run.recipe.stage, run.stage_folders(), strict=True):
        if stage.name in done:
            yield stage.name, folder


def class_files(folder: StageFolder) -> Path | None:
    """Where a stage's scores by class lie, if they do."""
    return folder.root if (folder.root / SCORES).is_file() else None


def read_class_scores(path: Path) -> list[ClassScore]:
    """The counts of `classes.csv`. Raises `UserError` for what is none."""
    text = read_text(path, "table of scores by class")
    try:
        return [
            ClassScore(
                name=row["class"],
                images=int(row["images"]),
                right=int(row["right"]),
                false_positives=int(row["false_positives"]),
                auc=float(row["auc"]) if row["auc"] else None,
            )
            for row in csv.DictReader(io.StringIO(text))
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"Table of scores by class {path} is damaged.") from error
