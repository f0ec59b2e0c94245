"""A stage's best checkpoint asked about images of no known class: each class's probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.base.files import written_name
from distill.data.dataset import Split
from distill.data.given_images import find_images, read_images
from distill.report.class_report import shown
from distill.report.found_run import find_run, stage_config
from distill.report.stage_test import ask_stage, known_names, pick_device_for
from distill.report.tables import Row, as_text
from distill.spec.candidate import StageName
from distill.train.run_folder import StageResult, stage_folder

MOST_IMAGES = 1000
"""So many are asked about at most in one go; they are in memory together."""

TOLD = 3
"""Classes that a table tells of each image."""


@dataclass(frozen=True, kw_only=True)
class ImageAnswers:
    """The answers of one stage: `probabilities` (images, classes).

    With `several` labels an image each class has a probability of its own, else they add up to 1.
    """

    run: Path
    result: StageResult
    several: bool
    files: Sequence[Path]
    names: Sequence[str]
    probabilities: Tensor

    def ranked(self, image: int, most: int | None) -> list[tuple[str, float]]:
        """The classes with the highest probabilities for an image, the highest first."""
        order = self.probabilities[image].argsort(descending=True, stable=True)[:most]
        return [(self.names[number], float(self.probabilities[image, number])) for number in order]


def ask_about(
    folder: Path | None, stage: StageName, places: Sequence[Path], device_name: str
) -> ImageAnswers:
    """What the stage's best checkpoint says of the images in `places`, files and folders.

    They are made ready as those of the training were: fitted to the size in which these lie, then
    resized to the model's and normalised. Raises `UserError` for a stage that is not finished, and
    for images that are not there or can't be read.
    """
    run = find_run(folder)
    result = run.results(stage)[0]
    files = find_images(places, MOST_IMAGES)
    trained = stage_config(run, stage).candidate
    device = pick_device_for(run, stage, device_name)
    classes, several = trained.student.classes, trained.input.multi_label
    shape = (len(files), classes) if several else (len(files),)
    pixels = read_images(files, trained.input.source_size, trained.student.channels)
    unknown = Split(pixels, np.zeros(shape, dtype=np.int64))
    logits = torch.cat(ask_stage(run, result, unknown, device, auc=True).logits)  # keeps them all
    checkpoints = stage_folder(run.folder, run.recipe, stage).checkpoints
    return ImageAnswers(
        run=run.folder,
        result=result,
        several=several,
        files=files,
        names=known_names(checkpoints / result.checkpoint, classes),
        probabilities=logits.sigmoid() if several else logits.softmax(dim=1),
    )


def answers_text(answers: ImageAnswers, most: int | None) -> str:
    """A line for each image and class, the likeliest first; the image is named once."""
    rows: list[Row] = []
    for number, path in enumerate(answers.files):
        for rank, (name, probability) in enumerate(answers.ranked(number, most or TOLD)):
            rows.append(
                {
                    "image": "" if rank else shown(str(path)),
                    "class": shown(name),
                    "probability %": f"{100 * probability:.2f}",
                }
            )
    return as_text(rows)


def answers_document(answers: ImageAnswers, most: int | None) -> dict[str, Any]:
    """The same for programs, by default with all classes."""
    return {
        "run": written_name(answers.run),
        "stage": answers.result.stage,
        "model": answers.result.model,
        "checkpoint": answers.result.checkpoint,
        "several_labels": answers.several,
        "images": [
            {
                "image": written_name(path),
                "classes": [
                    {"class": shown(name), "probability": probability}
                    for name, probability in answers.ranked(number, most)
                ],
            }
            for number, path in enumerate(answers.files)
        ],
    }
