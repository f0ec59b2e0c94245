"""Attention pictures of a run: at the end of each stage, and whenever they are asked for."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.base.console import say
from distill.base.errors import UserError
from distill.data.given_images import find_images, read_images
from distill.report.attention.drawn import (
    COMPARED,
    draw_all_heads,
    draw_compared,
    draw_head,
    draw_rollouts,
    draw_stage,
    few_test_images,
)
from distill.report.attention.image_attention import ImageAttention, Shown, Viewer
from distill.report.found_run import FoundRun, find_run, stage_config
from distill.report.retest import same_data
from distill.report.stage_test import known_names, pick_device_for
from distill.run.request import RunRequest
from distill.spec.candidate import StageName
from distill.spec.image_source import safe_name
from distill.step.memory import is_out_of_memory
from distill.step.models import build, normalisation_of
from distill.step.prepare import Prepare
from distill.train.best_weights import load_weights
from distill.train.run_folder import StageResult, stage_folder
from distill.train.stage_job import StageJob

MOST_IMAGES = 100
"""So many are drawn at most in one go."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be drawn: rollouts, one head or all heads of a block, or the usual pictures.

    `images` are files and folders; without any, a few test images of the run are taken.
    """

    stage: StageName | None
    images: Sequence[Path]
    layer: int | None
    head: int | None
    all_heads: bool
    rollout: bool
    out: Path | None
    data_dir: Path
    device: str

    @property
    def usual(self) -> bool:
        """True if nothing is asked for but what the end of a stage draws."""
        return not (self.rollout or self.all_heads or (self.layer, self.head) != (None, None))

    def folder(self, run: FoundRun, stage: StageName) -> Path:
        """Where a stage's pictures go."""
        if self.out is None:
            return stage_folder(run.folder, run.recipe, stage).visualizations
        return self.out if self.stage is not None else self.out / stage


def draw_at_stage_end(request: RunRequest, job: StageJob) -> None:
    """The pictures of a stage that is done, whose model is still in memory.

    At the end of the last stage its maps are compared with those of the stages before, too. What
    can't be drawn is told: the stage is done all the same.
    """
    try:
        _draw_at_stage_end(request, job)
    except UserError as error:
        say(f"  {job.stage}  draws no attention maps: {error}")
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        say(f"  {job.stage}  draws no attention maps, as memory ended: distill attention does")


def _draw_at_stage_end(request: RunRequest, job: StageJob) -> None:
    run = FoundRun(folder=request.folder, recipe=request.recipe)
    viewer = Viewer(
        model=job.step.student,
        prepare=job.step.prepare,
        names=job.data.classes,
        several=job.data.task == "multi-label",
    )
    shown = few_test_images(job.data.test, job.data.classes)
    looks = [viewer.look(one) for one in shown]
    title = f"{job.stage}, {job.plan.candidate.student.title}"
    draw_stage(job.folder.visualizations, looks, shown, title)
    if job.stage == request.recipe.stage[-1].name:
        compared: dict[StageName, list[ImageAttention]] = {}
        for result in run.results():
            with contextlib.suppress(UserError):  # told at the end of that stage
                compared[result.stage] = (
                    looks
                    if result.stage == job.stage
                    else _looks(run, result, shown, torch.device("cpu"))
                )
        _draw_compared(run, None, compared, shown)


def draw_run(folder: Path | None, wanted: Wanted) -> list[Path]:
    """Draw what is wanted of each finished stage, or of the one that is named; returns the files.

    The run is the one in `folder`, or the only one there is.

    Raises `UserError` for a stage, block, head or image that is not there, and where no stage has
    attention maps; of several stages those that lack something are told and passed over.
    """
    run = find_run(folder)
    results = run.results(wanted.stage)
    device = pick_device_for(run, results[0].stage, wanted.device)
    shown = _shown(run, wanted)
    paths: list[Path] = []
    looks: dict[StageName, list[ImageAttention]] = {}
    for result in results:
        try:
            found = _looks(run, result, shown, device, wanted)
        except UserError as error:
            if len(results) == 1:
                raise
            say(f"  {result.stage}  draws no attention maps: {error}")
            continue
        looks[result.stage] = found
        paths += _draw(wanted, wanted.folder(run, result.stage), found, shown, _title(run, result))
    if not looks:
        raise UserError(f"No stage of {run.folder} can be drawn so.")
    if wanted.usual or wanted.rollout:
        paths += _draw_compared(run, wanted.out, looks, shown)
    return paths


def _shown(run: FoundRun, wanted: Wanted) -> list[Shown]:
    """The images that are named, or a few of the run's own test."""
    trained = stage_config(run, run.results(wanted.stage)[0].stage).candidate
    if not wanted.images:
        try:
            data = same_data(run, wanted.data_dir)
        except UserError as error:
            raise UserError(f"{error} Or name images: --images FILE.") from error
        return few_test_images(data.test, data.classes)
    files = find_images(wanted.images, MOST_IMAGES)
    pixels = read_images(files, trained.input.source_size, trained.student.channels)
    return [Shown(pixels=of, caption=path.name) for of, path in zip(pixels, files, strict=True)]


def _looks(
    run: FoundRun,
    result: StageResult,
    shown: Sequence[Shown],
    device: torch.device,
    wanted: Wanted | None = None,
) -> list[ImageAttention]:
    """How a finished stage's best checkpoint looks at the images."""
    viewer = _viewer(run, result, device)
    layer = None if wanted is None else wanted.layer
    if layer is not None and layer >= viewer.layers:
        raise UserError(f"There is no block {layer}: there are blocks 0 to {viewer.layers - 1}.")
    looks = [viewer.look(one, layer) for one in shown]
    heads = len(looks[0].heads)
    if wanted is not None and wanted.head is not None and wanted.head >= heads:
        raise UserError(f"There is no head {wanted.head}: there are heads 0 to {heads - 1}.")
    return looks


def _viewer(run: FoundRun, result: StageResult, device: torch.device) -> Viewer:
    """The stage's best checkpoint, with what made its images ready in training."""
    candidate = stage_config(run, result.stage).candidate
    spec, folder = candidate.student, stage_folder(run.folder, run.recipe, result.stage)
    model = build(spec)
    checkpoint = folder.checkpoints / result.checkpoint
    load_weights(checkpoint, model)
    model.to(device)
    normalisation = normalisation_of(model, spec.channels)
    return Viewer(
        model=model,
        prepare=Prepare(candidate.input, spec.image_size, normalisation, device),
        names=known_names(checkpoint, spec.classes),
        several=candidate.input.multi_label,
    )


def _draw(
    wanted: Wanted,
    folder: Path,
    looks: Sequence[ImageAttention],
    shown: Sequence[Shown],
    title: str,
) -> list[Path]:
    if wanted.rollout:
        return draw_rollouts(folder, looks, shown, title)
    if wanted.head is not None:
        return draw_head(folder, looks, shown, title, wanted.head)
    if wanted.usual:
        return draw_stage(folder, looks, shown, title)
    return draw_all_heads(folder, looks, shown, title, named=wanted.layer is not None)


def _draw_compared(
    run: FoundRun,
    out: Path | None,
    looks: Mapping[StageName, Sequence[ImageAttention]],
    shown: Sequence[Shown],
) -> list[Path]:
    """The stages beside each other, where there are several."""
    if len(looks) < 2:
        return []
    return draw_compared(
        (out or run.folder) / COMPARED, looks, shown, safe_name(run.recipe.dataset)
    )


def _title(run: FoundRun, result: StageResult) -> str:
    return f"{result.stage}, {stage_config(run, result.stage).candidate.student.title}"
