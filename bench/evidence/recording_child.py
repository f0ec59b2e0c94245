"""The child that runs a candidate under the allocator's own history and writes a recording.

It goes through the very phases that are predicted: two updates from a cold start and an
evaluation. It saves what PyTorch's allocator did and its statistics; nothing of it names the
machine. Without CUDA the same steps run on the CPU and the history is imitated from the
prediction, which proves the way and nothing else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from bench.card.targets import target_named
from bench.evidence.imitation import imitate
from bench.evidence.recording import STATISTICS, Recording, stripped
from bench.measure.jobs import Job, read_job
from bench.measure.noise import keep_every_update, noise_batch, noise_update
from bench.measure.trial_child import preload as preload  # what a fork server calls
from bench.simulate.predictor import Predictor
from bench.simulate.program.arrange import REPEATED
from distill.base.files import write_json
from distill.step.assemble import assemble, built_teaching
from distill.step.memory import pinned, set_cap, synchronize
from distill.step.models import build, build_student
from distill.step.step import Phase, Step, Teaching

MAX_EVENTS = 1_000_000


def work(job_path: Path, result_path: Path) -> None:
    """Record the job in this process, which must not have touched CUDA yet."""
    write_json(result_path, record(read_job(job_path, Job)).model_dump(mode="json"))


def record(job: Job) -> Recording:
    """Run the job's candidate and give the allocator's history of it.

    Raises `ValueError` for a candidate of whose run the prediction leaves something out.
    """
    candidate, device = job.candidate, torch.device(job.device)
    if candidate.images_per_epoch is not None or candidate.accumulation > REPEATED + 1:
        raise ValueError("only whole updates of a few micro-batches are recorded")
    marks: list[tuple[Phase, int]] = []

    def mark(phase: Phase) -> None:
        marks.append((phase, _allocations(device)))

    torch.manual_seed(0)
    torch.use_deterministic_algorithms(candidate.deterministic)
    with _history(device), pinned(job.pins, device):
        if job.cap_bytes is not None:
            set_cap(job.cap_bytes, device)
        step = _run(job, device, mark)
        synchronize(device)
        if device.type != "cuda":
            return _imitated(job, [phase for phase, _ in marks])
        snapshot = torch.cuda.memory._snapshot()
        statistics = torch.cuda.memory_stats(device)
        del step
    return Recording(
        source="recorded",
        candidate=candidate,
        pins=job.pins,
        marks=tuple(marks),
        statistics={name: int(statistics[name]) for name in STATISTICS},
        history=stripped(snapshot["device_traces"][device.index or 0]),
    )


def _run(job: Job, device: torch.device, mark: Callable[[Phase], None]) -> Step | Teaching:
    """The parts that `arrange.training_run` puts together, in its order; gives what holds them."""
    candidate = job.candidate
    if candidate.teacher_logits == "caching":
        teaching, batch = built_teaching(candidate, device, mark), noise_batch(candidate)
        for _ in range(2):
            teaching(batch)
        return teaching
    student = build_student(candidate)
    teacher = None if candidate.online_teacher is None else build(candidate.online_teacher)
    updates = [noise_update(candidate, device) for _ in range(2)]
    evaluated = replace(candidate, micro_batch=candidate.images_evaluated_at_once)
    evaluation = replace(noise_batch(evaluated), views=None)
    step = assemble(candidate, student, teacher, device, mark=mark)
    keep_every_update(step)
    for update in updates:
        step.train(update)
    step.evaluate(evaluation)
    return step


@contextmanager
def _history(device: torch.device) -> Iterator[None]:
    """The allocator writes down what it does while inside."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.init()  # before it there are no statistics, not even zeros
    torch.cuda.memory._record_memory_history(context=None, stacks="python", max_entries=MAX_EVENTS)
    try:
        yield
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)


def _allocations(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    return int(torch.cuda.memory_stats(device)["allocation.all.allocated"])


def _imitated(job: Job, phases: list[Phase]) -> Recording:
    """The recording of a known card, imitated; the phases are those that ran here."""
    target = target_named("rtx4050")
    program, run = Predictor(target, job.pins.allocator).run(job.candidate)
    imitation = imitate(
        program, run.peak.sizes, job.candidate, job.pins, device_bytes=target.total_bytes
    )
    marks = zip(phases, (before for _, before in imitation.marks), strict=True)
    return imitation.model_copy(update={"marks": tuple(marks)})
