"""A teacher in every step beside one whose logits are cached: time, memory, accuracy.

    python -m tests.benchmarks.cached_teacher WORK_DIR [--seeds 1] [--epochs 16]

The demo's teacher is trained once a seed, with views that are padded and cropped; then the demo's
assistant is taught by it, online and from cached logits of all, half or few views an image. Prints
a Markdown table: seconds as the runs measured them, and the core's own time for a whole command,
which other programs hardly change; memory as it is predicted for an RTX 4050. About two minutes a
seed on a quiet core; a finished run in WORK_DIR is not repeated, and its core's time not known.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from distill.base.units import MIB
from distill.report.tables import Row, as_markdown

RUN = Path("from_scratch") / "digits"
IMAGES = 1259


@dataclass(frozen=True)
class Way:
    """How the assistant is taught: `views` of each image cached, `None` with the teacher beside."""

    views: int | None

    @property
    def options(self) -> list[str]:
        if self.views is None:
            return ["--teacher", "online"]
        return ["--teacher", "cached", "--teacher-views", str(self.views)]


@dataclass(frozen=True)
class Taught:
    """What a run left of the stage: seconds an epoch, of caching and in all, and the test."""

    core_seconds: float
    epoch_seconds: float
    caching_seconds: float
    stage_seconds: float
    accuracy: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=16)
    options = parser.parse_args()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    recipe = options.work_dir / "cached.toml"
    recipe.write_text(recipe_text(options.epochs))
    ways = [Way(None), *(Way(options.epochs // part) for part in (1, 2, 8))]
    found: dict[Way, list[Taught]] = {way: [] for way in ways}
    for seed in range(options.seeds):
        teacher = options.work_dir / f"seed{seed}" / "teacher"
        run(recipe, teacher, seed, "--stage", "teacher")
        for way in ways:
            out = options.work_dir / f"seed{seed}" / f"views{way.views}"
            stage = teacher / RUN / "teacher"
            core = run(recipe, out, seed, "--stage", "assistant", "--teacher-weights", str(stage),
                       *way.options)  # fmt: skip
            found[way].append(taught(out / RUN / "assistant", core))
    print(as_markdown([row(way, found[way], recipe, options.epochs) for way in ways]))


def recipe_text(epochs: int) -> str:
    """The demo with random views and shorter."""
    text = (resources.files("distill.spec") / "recipes" / "demo.toml").read_text("utf-8")
    text = text.replace("epochs = 30", f"epochs = {epochs}")
    return text.replace("[[stage]]", "[augmentation]\ncrop_padding = 1\n\n[[stage]]", 1)


def run(recipe: Path, out: Path, seed: int, *more: str) -> float:
    """`distill run` to its end; seconds that a core was at work for it, its start included."""
    command = [sys.executable, "-m", "distill", "run", "--recipe", str(recipe), *more]
    command += ["--seed", str(seed), "--device", "cpu", "--threads", "1", "--out", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def taught(stage: Path, core_seconds: float) -> Taught:
    """What the files of a stage say."""
    with next(stage.glob("logs/*_log.csv")).open() as stream:
        epochs = [float(line["epoch_time_sec"]) for line in csv.DictReader(stream)]
    cached = stage / "teacher_logits" / "logits.json"
    result = json.loads((stage / "result.json").read_text())
    return Taught(
        core_seconds=core_seconds,
        epoch_seconds=statistics.median(epochs),
        caching_seconds=json.loads(cached.read_text())["seconds"] if cached.exists() else 0.0,
        stage_seconds=result["train_seconds"],
        accuracy=result["test_accuracy"],
    )


def row(way: Way, runs: list[Taught], recipe: Path, epochs: int) -> Row:
    """One line of the table: means over the seeds."""
    mean = {
        name: statistics.mean(getattr(one, name) for one in runs)
        for name in (
            "core_seconds",
            "epoch_seconds",
            "caching_seconds",
            "stage_seconds",
            "accuracy",
        )
    }
    spread = statistics.stdev(one.accuracy for one in runs) if len(runs) > 1 else None
    return {
        "teacher": "online" if way.views is None else "cached",
        "views an image": "a new one each epoch" if way.views is None else str(way.views),
        "seconds an epoch": f"{mean['epoch_seconds']:.2f}",
        "images/s": f"{IMAGES / mean['epoch_seconds']:,.0f}",
        "caching, s": f"{mean['caching_seconds']:.1f}",
        f"stage of {epochs} epochs, s": f"{mean['stage_seconds']:.1f}",
        "core seconds of the command": f"{mean['core_seconds']:.1f}",
        "predicted MiB": predicted_mib(recipe, way),
        "test accuracy": f"{100 * mean['accuracy']:.2f} %"
        + ("" if spread is None else f" ± {100 * spread:.2f}"),
    }


def predicted_mib(recipe: Path, way: Way) -> str:
    """Peak reserved MiB of the stage on an RTX 4050, caching included."""
    command = [sys.executable, "-m", "bench", "predict", "--json", "--recipe", str(recipe)]
    command += ["--stage", "assistant", "--batch-size", "64", "--precision", "fp32"]
    command += way.options[:2]
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    document = json.loads(child.stdout)
    peaks = document["peak_reserved_bytes"], document.get("caching_peak_bytes", 0)
    return f"{max(peaks) / MIB:,.0f}"


if __name__ == "__main__":
    main()
