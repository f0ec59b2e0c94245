"""The step: what it learns from, what it leaves behind."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.data.batches import Batch, cut, views_of
from distill.data.dataset import Split
from distill.spec.candidate import Candidate
from distill.step.assemble import assemble
from distill.step.models import build
from distill.step.step import Step

CPU = torch.device("cpu")


def make_step(candidate: Candidate, **options) -> Step:
    torch.manual_seed(0)
    student = build(candidate.student, checkpointing=candidate.checkpointing)
    teacher = None if candidate.teacher is None else build(candidate.teacher)
    return assemble(candidate, student, teacher, CPU, learning_rate=1e-2, **options)


def noise(count: int, candidate: Candidate) -> Split:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return Split(images, generator.integers(0, 10, count))


def batches(data: Split, candidate: Candidate, sizes: list[int]) -> list[Batch]:
    rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return [cut(data, r, views_of(candidate.input, r, seed=0, epoch=0)) for r in rows]


def gradients_of(step: Step, micro_batches: list[Batch]) -> list[torch.Tensor]:
    """The gradients that one update hands to the optimizer."""
    seen: list[torch.Tensor] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        seen.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

    step.optimizer.register_step_pre_hook(look)
    step.train(micro_batches)
    return seen


@pytest.mark.parametrize("sizes", [[4, 4, 4], [5, 5, 2], [1] * 12])
def test_micro_batches_learn_what_one_large_batch_learns(small_candidate, sizes) -> None:
    """Compared as the gradients that the optimizer is given; they differ by summation order."""
    data = noise(12, small_candidate)
    whole = gradients_of(make_step(small_candidate), batches(data, small_candidate, [12]))
    parts = gradients_of(make_step(small_candidate), batches(data, small_candidate, sizes))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_it_learns_from_teacher_and_labels(small_candidate) -> None:
    step = make_step(small_candidate)
    batch = batches(noise(8, small_candidate), small_candidate, [8])
    losses = [float(step.train(batch)[0].loss) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_teacher_is_frozen_and_never_moves(small_candidate) -> None:
    step = make_step(small_candidate)
    before = [p.clone() for p in step.teacher.parameters()]
    step.train(batches(noise(8, small_candidate), small_candidate, [4, 4]))
    assert not step.teacher.training
    assert not any(p.requires_grad or p.grad is not None for p in step.teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, step.teacher.parameters(), strict=True))


def test_no_gradient_is_left_behind(small_candidate) -> None:
    step = make_step(small_candidate)
    step.train(batches(noise(4, small_candidate), small_candidate, [4]))
    assert all(parameter.grad is None for parameter in step.student.parameters())


def test_abandoning_drops_what_a_failed_update_left(small_candidate) -> None:
    step = make_step(small_candidate)
    data = batches(noise(8, small_candidate), small_candidate, [4, 4])

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory left")

    step._accumulate(data[0], 0.5)
    handle = step.student.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        step.train(data)
    assert any(parameter.grad is not None for parameter in step.student.parameters())
    handle.remove()
    step.abandon()
    assert all(parameter.grad is None for parameter in step.student.parameters())


def test_evaluation_changes_nothing_and_sees_no_views(small_candidate) -> None:
    step = make_step(small_candidate)
    batch = cut(noise(6, small_candidate), np.arange(6), None)
    before = [p.clone() for p in step.student.parameters()]
    first, second = step.evaluate(batch), step.evaluate(batch)
    assert torch.equal(first.logits, second.logits) and first.logits.shape == (6, 10)
    assert not first.logits.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, step.student.parameters(), strict=True))


def test_the_phases_come_in_order(small_candidate) -> None:
    phases: list[str] = []
    step = make_step(small_candidate, mark=phases.append)
    step.train(batches(noise(8, small_candidate), small_candidate, [4, 4]))
    one = ["prepare", "teacher", "forward", "backward"]
    assert phases == ["setup", *one, *one, "update"]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_it_runs_in_the_precision_asked_for(small_candidate, precision) -> None:
    step = make_step(replace(small_candidate, precision=precision))
    seen: list[torch.dtype] = []
    step.student.blocks[0].mlp.fc1.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    step.train(batches(noise(4, small_candidate), small_candidate, [4]))
    assert seen == [torch.bfloat16 if precision == "bf16" else torch.float32]
    assert all(p.dtype == torch.float32 for p in step.student.parameters())
