"""What the training loop costs beside a bare PyTorch loop around the same `Step`.

    python -m tests.benchmarks.loop_overhead [--rounds 15]

Both train the demo recipe's teacher on digits for an epoch, from the same weights and with the
same batches, one after the other in each round; the loop also keeps scores, watches for signals
and shows its bar. Prints the median of the rounds' ratios. Validation and checkpoints are left
out: a bare loop would need them as well.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from distill.base.signals import StopRequest
from distill.data.batches import training_batches
from distill.data.dataset import Dataset
from distill.data.load import load_dataset
from distill.run.request import RunRequest, planned
from distill.run.stage import _build_step, _out_of_memory_handler
from distill.spec.recipe import load_recipe
from distill.spec.stage_plan import Overrides
from distill.step.optim import learning_rate_at, set_learning_rate
from distill.step.step import Step
from distill.train.checkpoint import Identity, Position
from distill.train.events import EventLog
from distill.train.loop import _train_epoch
from distill.train.run_folder import stage_folder
from distill.train.stage_job import StageJob
from distill.train.stage_progress import StageProgress


def request_in(folder: Path) -> RunRequest:
    return RunRequest(
        recipe=load_recipe("demo"),
        profile=None,
        overrides=Overrides(batch_size=64),
        stage="teacher",
        out=folder,
        data_dir=folder,
        device=torch.device("cpu"),
    )


def new_step(request: RunRequest) -> Step:
    plan = planned(request, request.recipe.stage_named("teacher"))
    return _build_step(request, plan, None, begun=False)


def ours(request: RunRequest, data: Dataset) -> float:
    """Seconds of an epoch in the project's loop."""
    plan = planned(request, request.recipe.stage_named("teacher"))
    folder = stage_folder(request.folder, request.recipe, "teacher")
    events = EventLog(stage="teacher", record=folder.events, json_log=None)
    handler = _out_of_memory_handler(request, plan, folder, events)
    step = new_step(request)
    job = StageJob(
        stage="teacher",
        plan=plan,
        step=step,
        data=data,
        folder=folder,
        identity=Identity(stage="teacher", recipe="", teacher=None, weights=None),
        seed=0,
        stop=StopRequest(),
        events=events,
        handler=handler,
    )
    progress = StageProgress(
        "teacher", epochs=1, updates_per_epoch=job.updates_per_epoch, done=0, later_updates=0
    )
    handler.watch(step, progress.say)
    began = time.perf_counter()
    _train_epoch(job, Position(rows=[], partial=None), progress, None)
    seconds = time.perf_counter() - began
    progress.close()
    return seconds


def bare(request: RunRequest, data: Dataset) -> float:
    """Seconds of an epoch in a loop that does nothing else."""
    plan = planned(request, request.recipe.stage_named("teacher"))
    step = new_step(request)
    effective = plan.training.effective_batch
    updates = -(-len(data.train) // effective)
    began = time.perf_counter()
    batches = training_batches(
        data.train,
        plan.candidate.input,
        seed=0,
        epoch=0,
        micro_batch=plan.candidate.micro_batch,
        effective_batch=effective,
    )
    for update, micro_batches in enumerate(batches):
        rate = learning_rate_at(update, plan.training, updates)
        set_learning_rate(step.optimizer, rate)
        step.train(micro_batches)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        request = request_in(Path(name))
        recipe = request.recipe
        data = load_dataset(recipe.dataset, recipe.image_size, Path(name))
        bare(request, data), ours(request, data)  # warm up
        pairs = [(ours(request, data), bare(request, data)) for _ in range(rounds)]
    ratios = [loop / plain for loop, plain in pairs]
    spread = statistics.quantiles(ratios, n=4)
    print(f"loop {statistics.median(loop for loop, _ in pairs):.3f} s an epoch")
    print(f"bare {statistics.median(plain for _, plain in pairs):.3f} s an epoch")
    print(f"ratio {statistics.median(ratios):.4f} (quartiles {spread[0]:.4f} to {spread[2]:.4f})")


if __name__ == "__main__":
    main()
