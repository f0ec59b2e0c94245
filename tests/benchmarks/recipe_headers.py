"""What a recipe takes on a 6 GB RTX 4050 Laptop, predicted, as the first lines of its file say it.

    python -m tests.benchmarks.recipe_headers cifar10_short cifar100 medmnist

Each stage in bf16 with nothing checkpointed, as many images at a time as fit; `bench probe` may
find what is faster. Replaces those lines in the files, which end the comment at their top.
"""

import re
import sys
from dataclasses import dataclass, replace

from bench.card.budget import assumed_budget
from bench.card.targets import target_named
from bench.probe.grid import MICRO_BATCHES
from bench.simulate.prediction import Prediction
from bench.simulate.predictor import Predictor
from distill.base.units import MIB
from distill.spec.candidate import StageName
from distill.spec.recipe import Recipe, load_recipe
from distill.spec.stage_time import rough
from tests.conftest import ROOT

TARGET = target_named("rtx4050")
FOLDER = ROOT / "distill" / "spec" / "recipes"
FIRST = "# Predicted for an RTX 4050 Laptop with 6 GB, in bf16, nothing checkpointed:"
LINE = re.compile(r"#   (teacher|assistant|student) +(\d+) images at a time, +([\d,]+) MiB, (.+)")


@dataclass(frozen=True)
class Needed:
    """What one stage takes: images at a time, MiB reserved at the peak, seconds of all epochs."""

    stage: StageName
    micro_batch: int
    mib: int
    seconds: float

    @property
    def line(self) -> str:
        """The stage's line in the file."""
        return (
            f"#   {self.stage:<9} {self.micro_batch:>4} images at a time, {self.mib:>5,} MiB, "
            f"{rough(self.seconds)}"
        )


def needed(recipe: Recipe, stage: StageName, predictor: Predictor) -> Needed:
    """The largest micro-batch of the probe's grid that fits, and what it takes."""
    limit_bytes = assumed_budget(6, TARGET).limit_bytes
    whole = replace(recipe.candidate(stage), precision="bf16")
    for batch in reversed(MICRO_BATCHES):
        if batch <= whole.effective_batch:
            found = predictor.predict(whole.with_batch(batch, whole.effective_batch))
            if found.safe_bytes <= limit_bytes:
                mib = -(-found.safe_bytes // MIB)
                return Needed(stage, batch, mib, _seconds(recipe, stage, found))
    raise ValueError(f"{recipe.name}: {stage} does not fit")


def _seconds(recipe: Recipe, stage: StageName, found: Prediction) -> float:
    """Updates and validation of all epochs, and the pass that caches the teacher's logits."""
    training, info = recipe.training_of(stage), recipe.dataset_info()
    epoch = info.train_images / found.expected_images_per_second
    epoch += info.validation_images / found.timing.evaluated_per_second
    seconds = training.epochs * epoch
    if found.caching is not None:
        views = training.teacher_views or 1
        seconds += views * info.train_images / found.caching.expected_images_per_second
    return seconds


def written(text: str, lines: list[str]) -> str:
    """A recipe's text with these lines at the end of the comment at its top."""
    comment, _, values = text.partition("\n\n")
    kept = comment.partition(f"\n#\n{FIRST}")[0]
    return "\n".join([kept, "#", FIRST, *lines]) + "\n\n" + values


def main() -> None:
    """Predict, print, and write the lines."""
    predictor = Predictor(TARGET, "expandable")
    for name in sys.argv[1:]:
        recipe = load_recipe(name)
        stages = [needed(recipe, stage.name, predictor) for stage in recipe.stage]
        lines = [one.line for one in stages]
        lines.append(f"#   in all {rough(sum(one.seconds for one in stages))}")
        print("\n".join([name, *lines]), flush=True)
        path = FOLDER / f"{name}.toml"
        path.write_text(written(path.read_text(), lines))


if __name__ == "__main__":
    main()
