"""A stage's best model as a folder that timm reads: `model.safetensors` and `config.json`."""

from pathlib import Path
from typing import Any

from distill.base.errors import UserError
from distill.base.files import ensure_folder, write_json, write_whole
from distill.report.found_run import FoundRun
from distill.spec.candidate import ModelSpec, StageName
from distill.step.models import build, normalisation_of
from distill.train.best_weights import load_weights, with_checksum
from distill.train.run_folder import stage_folder


def export_stage(run: FoundRun, stage: StageName, target: Path) -> None:
    """Write the folder. Raises `UserError` when the stage is not finished or `target` is taken."""
    result = next((result for result in run.results() if result.stage == stage), None)
    if result is None:
        raise UserError(f"Stage {stage} of {run.folder} is not finished. Go on with distill run.")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} is not an empty folder. Name another with --to.")
    folder = stage_folder(run.folder, run.recipe, stage)
    spec = run.recipe.model_of(stage)
    model = build(spec)
    load_weights(folder.checkpoints / result.checkpoint, model)
    ensure_folder(target)
    content = with_checksum(model.state_dict(), {"format": "pt"})
    write_whole(target / "model.safetensors", lambda stream: stream.write(content))
    normalisation = normalisation_of(model, spec.channels)
    write_json(
        target / "config.json",
        {
            "architecture": spec.name,
            "num_classes": spec.classes,
            "model_args": _model_args(spec),
            "pretrained_cfg": {
                "num_classes": spec.classes,
                "input_size": [spec.channels, spec.image_size, spec.image_size],
                "mean": list(normalisation.mean),
                "std": list(normalisation.std),
                "crop_pct": 1.0,
                "interpolation": "bilinear",
            },
        },
    )


def _model_args(spec: ModelSpec) -> dict[str, Any]:
    """The arguments that timm is to build the model with, where they are not its own."""
    shape = {
        "img_size": spec.image_size if spec.name.startswith(("vit_", "deit")) else None,
        "patch_size": spec.patch_size,
        "depth": spec.depth,
        "embed_dim": spec.width,
        "num_heads": spec.heads,
    }
    given = {name: value for name, value in shape.items() if value is not None}
    return given | {"in_chans": spec.channels}
