"""A stage's best model as a folder that timm reads: `model.safetensors` and `config.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from distill.base.console import say
from distill.base.errors import UserError
from distill.base.files import ensure_folder, write_json, write_whole
from distill.data.images import GREY
from distill.report.found_run import FoundRun, stage_config
from distill.spec.candidate import Candidate, StageName
from distill.spec.image_source import is_own
from distill.step.models import Normalisation, build, normalisation_of, timm_arguments
from distill.train.best_weights import load_weights, recorded_classes, with_checksum
from distill.train.run_folder import stage_folder


def export_stage(run: FoundRun, stage: StageName, target: Path) -> None:
    """Write the folder. Raises `UserError` when the stage is not finished or `target` is taken."""
    result = run.results(stage)[0]
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} is not an empty folder. Name another with --to.")
    folder = stage_folder(run.folder, run.recipe, stage)
    candidate = stage_config(run, stage).candidate  # the images need not be there any more
    model = build(candidate.student)
    load_weights(folder.checkpoints / result.checkpoint, model)
    ensure_folder(target)
    content = with_checksum(model.state_dict(), {"format": "pt"})
    write_whole(target / "model.safetensors", lambda stream: stream.write(content))
    names = recorded_classes(folder.checkpoints / result.checkpoint)
    write_json(target / "config.json", _config(candidate, run.recipe.dataset, model, names))
    if names is None:
        say(f"  {target} names no classes: their names are gone from the best weights.")


def _config(
    candidate: Candidate, dataset: str, model: nn.Module, names: Sequence[str] | None
) -> dict[str, Any]:
    """What timm reads: the model's arguments, and how images were made ready for it.

    Images of one's own were fitted to the model's size by PIL (bicubic, the middle of the longer
    side), those of other sets resized as tensors (bilinear). timm knows one resize only; the whole
    way is in `preprocessing`.
    """
    spec = candidate.student
    architecture, arguments = timm_arguments(spec)
    normalisation = normalisation_of(model, spec.channels)
    labels = None if names is None else {"label_names": [_as_text(name) for name in names]}
    return {
        "architecture": architecture,
        "num_classes": spec.classes,
        **(labels or {}),
        "model_args": arguments,
        "pretrained_cfg": {
            "num_classes": spec.classes,
            "input_size": [spec.channels, spec.image_size, spec.image_size],
            "mean": list(normalisation.mean),
            "std": list(normalisation.std),
            "crop_pct": 1.0,
            "crop_mode": "center",
            "interpolation": "bicubic" if is_own(dataset) else "bilinear",
        },
        "preprocessing": _preprocessing(candidate, normalisation),
    }


def _preprocessing(candidate: Candidate, normalisation: Normalisation) -> list[dict[str, Any]]:
    """The steps from an image to the model's input, as `distill predict` takes them."""
    spec, source_size = candidate.student, candidate.input.source_size
    resized = {"size": spec.image_size, "interpolation": "bilinear", "antialias": True}
    return [
        {"step": "fit", "size": source_size, "interpolation": "bicubic", "keep": "center"},
        *([{"step": "grey", "red_green_blue": GREY.tolist()}] if spec.channels == 1 else []),
        *([{"step": "resize", **resized}] if source_size != spec.image_size else []),
        {"step": "scale", "from": [0, 255], "to": [0, 1]},
        {"step": "normalize", "mean": list(normalisation.mean), "std": list(normalisation.std)},
    ]


def _as_text(name: str) -> str:
    """The name of a folder; bytes in it that are no text are marked."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
