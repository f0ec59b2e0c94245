"""Mistakes that cost memory, planted one by one: each is noticed, by cell and owner.

What can't be traced is refused: `test_refused_mistakes.py`. What is not seen is told in
docs/prediction.md.
"""

import copy
from contextlib import ExitStack
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from bench.compare.baseline import BaselineCell
from bench.compare.compare import compare_cells, exit_code
from distill.spec.candidate import Candidate
from distill.step.batch_result import BatchResult
from distill.step.prepare import Prepare
from distill.step.step import Step
from tests.bench.compare.planting import (
    CHECKPOINTED,
    WELL_TAUGHT,
    WHOLE,
    Plant,
    around,
    backward_by,
    before,
    built,
    forwarded,
    in_training,
    keeping,
    kept,
    last_kept,
    predict,
    prepared,
)


@pytest.fixture(scope="module")
def clean() -> dict[Candidate, BaselineCell]:
    """Each cell, nothing planted."""
    return {cell: predict(cell) for cell in (WHOLE, CHECKPOINTED, WELL_TAUGHT)}


def graphs_of_the_losses():
    return forwarded(lambda self, loss: [loss, kept(self, loss)][0])


def losses_in_a_list():
    return forwarded(lambda self, loss: [loss, kept(self, loss.detach())][0])


def logits_in_a_list():
    def register(self: Step) -> None:
        self.student.register_forward_hook(
            lambda module, _, logits: kept(module, logits.detach()) if module.training else None
        )

    return built(register)


def a_hook_that_keeps_its_input():
    return built(in_training(lambda module, given, _: last_kept(module, given.detach())))


def an_activation_in_an_attribute_of_its_module():
    return built(in_training(lambda module, _, out: last_kept(module, out)))


def a_lost_set_to_none():
    original = torch.optim.AdamW.zero_grad
    keep = lambda self, set_to_none=True: original(self, set_to_none=False)  # noqa: E731
    return mock.patch.object(torch.optim.AdamW, "zero_grad", keep)


def backward_inside_autocast():
    """The copies of the weights live until the end of backward."""
    return around("_accumulate", lambda: torch.autocast("cuda", dtype=torch.float16))


def one_autocast_around_a_whole_update():
    return around("train", lambda: torch.autocast("cuda", dtype=torch.float16))


def a_second_optimizer():
    def make(self: Step) -> None:
        self.other = torch.optim.AdamW(self.student.parameters(), fused=True)

    with ExitStack() as stack:
        stack.enter_context(built(make))
        stack.enter_context(before("_update", lambda self: self.other.step()))
        return stack.pop_all()


def a_third_moment():
    def make(self: Step) -> None:
        self.optimizer = torch.optim.AdamW(self.student.parameters(), fused=True, amsgrad=True)

    return built(make)


def a_second_scaler():
    return forwarded(
        lambda self, loss: self.__dict__.setdefault("other", torch.amp.GradScaler("cuda")).scale(
            loss
        )
    )


def activations_saved_in_float32():
    def pack(saved: Tensor) -> tuple[torch.dtype, Tensor]:
        return saved.dtype, saved.float() if saved.dtype is torch.float16 else saved

    return around("_forward", lambda: saved_tensors_hooks(pack, lambda p: p[1].to(p[0])))


def activations_saved_as_copies():
    return around("_forward", lambda: saved_tensors_hooks(torch.clone, lambda saved: saved))


def float32_copies_of_the_teachers_weights():
    return built(lambda self: last_kept(self, [p.double() for p in self.teacher.parameters()]))


def a_running_mean_of_the_weights():
    def update(self: Step) -> None:
        weights = [p.detach() for p in self.student.parameters()]
        if not hasattr(self, "mean"):
            self.mean = [weight.clone() for weight in weights]
        torch._foreach_lerp_(self.mean, weights, 0.01)

    return before("_update", update)


def a_deep_copy_of_the_student():
    return built(lambda self: last_kept(self, copy.deepcopy(self.student)))


def images_in_channels_last_beside_those_in_rows():
    def change(self: Prepare, images: Tensor) -> Tensor:
        several = keeping(self, images).expand(-1, 3, -1, -1)
        return several.contiguous(memory_format=torch.channels_last)[:, :1]

    return prepared(change)


def the_next_batch_on_the_device():
    return prepared(lambda self, images: [images, last_kept(self, images.clone())][0])


def a_gradient_of_the_images():
    return prepared(lambda _, images: images.requires_grad_())


def a_retained_graph():
    return backward_by(lambda _, scaled: scaled.backward(retain_graph=True))


def a_lost_del_of_the_loss():
    def accumulate(self: Step, batch, weight: float) -> BatchResult:
        loss, logits = self._forward(batch)
        self.mark("backward")
        self.scaler.scale(loss * weight).backward()
        return BatchResult(loss.detach().cpu(), logits)

    return mock.patch.object(Step, "_accumulate", accumulate)


def checkpointing_that_does_nothing():
    return mock.patch("distill.step.models.checkpoint_blocks", lambda model, every: None)


def an_unfrozen_teacher():
    """`no_grad` is there, `requires_grad_(False)` is not: autocast keeps half copies."""
    return built(lambda self: self.teacher.requires_grad_(True))


def a_teacher_with_a_graph():
    """Neither is there."""

    def teach(self: Step) -> None:
        self.teacher.requires_grad_(True)
        self.teacher.forward = torch.enable_grad()(self.teacher.forward)

    return built(teach)


def copies_of_the_gradients():
    return before(
        "_update", lambda self: last_kept(self, [p.grad.clone() for p in parameters(self)])
    )


def gradients_clipped_in_a_copy():
    def clip(self: Step) -> None:
        for parameter, clipped in [(p, p.grad * 0.5) for p in parameters(self)]:
            parameter.grad = clipped.clone()
            kept(parameter, clipped)

    return before("_update", clip)


def a_buffer_for_every_step():
    def register(self: Step) -> None:
        number = sum(1 for _ in self.student.buffers())
        self.student.register_buffer(f"seen_{number}", torch.zeros(999, device="cuda"))

    return before("train", register)


def a_buffer_that_grows():
    def grow(self: Step) -> None:
        if not hasattr(self, "history"):
            self.history = torch.zeros(1, device="cuda")
        self.history.resize_(len(self.history) + 100_000)

    return before("train", grow)


def circles_that_only_a_collection_frees():
    def circle(_: Step, loss: Tensor) -> Tensor:
        values: list[object] = [torch.ones(9999, device=loss.device)]
        values.append(values)
        return loss

    return forwarded(circle)


def an_evaluation_with_a_graph():
    stand_in = "bench.simulate.trace.fake_cuda._no_grad_for_inference"
    return mock.patch(stand_in, torch.enable_grad)


def parameters(self: Step) -> list[nn.Parameter]:
    return [p for p in self.student.parameters() if p.grad is not None]


COSTS: list[tuple[Plant, Candidate, set[str]]] = [
    (graphs_of_the_losses, WHOLE, {"activations", "temporaries"}),
    (losses_in_a_list, WHOLE, {"activations"}),
    (logits_in_a_list, WHOLE, {"activations"}),
    (a_hook_that_keeps_its_input, CHECKPOINTED, {"activations", "allocator_slack"}),
    (an_activation_in_an_attribute_of_its_module, CHECKPOINTED, {"activations", "allocator_slack"}),
    (a_lost_set_to_none, WHOLE, {"gradients"}),
    (backward_inside_autocast, CHECKPOINTED, {"low_precision_weights"}),
    (one_autocast_around_a_whole_update, CHECKPOINTED, {"low_precision_weights"}),
    (a_second_optimizer, WHOLE, {"temporaries"}),
    (a_third_moment, WHOLE, {"optimizer_state"}),
    (a_second_scaler, WHOLE, {"activations"}),
    (activations_saved_in_float32, WHOLE, {"activations"}),
    (activations_saved_as_copies, WHOLE, {"activations", "allocator_slack"}),
    (float32_copies_of_the_teachers_weights, WHOLE, {"temporaries"}),
    (a_running_mean_of_the_weights, WHOLE, {"temporaries"}),
    (a_deep_copy_of_the_student, WHOLE, {"temporaries"}),
    (images_in_channels_last_beside_those_in_rows, WHOLE, {"activations"}),
    (the_next_batch_on_the_device, WHOLE, {"activations"}),
    (a_gradient_of_the_images, WHOLE, {"activations"}),
    (a_retained_graph, WHOLE, {"activations"}),
    (a_lost_del_of_the_loss, WHOLE, {"activations"}),
    (checkpointing_that_does_nothing, CHECKPOINTED, {"activations"}),
    (an_unfrozen_teacher, WELL_TAUGHT, {"teacher", "low_precision_weights"}),
    (a_teacher_with_a_graph, WHOLE, {"activations", "teacher"}),
    (copies_of_the_gradients, WHOLE, {"temporaries"}),
    (gradients_clipped_in_a_copy, WHOLE, {"temporaries"}),
    (a_buffer_for_every_step, WHOLE, {"temporaries"}),
    (a_buffer_that_grows, WHOLE, {"temporaries"}),
    (circles_that_only_a_collection_frees, WHOLE, {"activations"}),
    (an_evaluation_with_a_graph, CHECKPOINTED, {"activations", "temporaries"}),
]


OPS: dict[Plant, str] = {
    a_lost_set_to_none: "_to_copy.default",
    a_second_optimizer: "zeros_like.default",
    a_third_moment: "zeros_like.default",
    activations_saved_in_float32: "_to_copy.default",
    activations_saved_as_copies: "clone.default",
    a_running_mean_of_the_weights: "clone.default",
    a_deep_copy_of_the_student: "clone.default",
    the_next_batch_on_the_device: "clone.default",
    copies_of_the_gradients: "clone.default",
    gradients_clipped_in_a_copy: "mul.Tensor",
    a_buffer_for_every_step: "zeros.default",
    a_buffer_that_grows: "resize_.default",
    circles_that_only_a_collection_frees: "ones.default",
}
"""The op that makes what is too much, where it is one."""


@pytest.mark.parametrize(
    ("plant", "cell", "owners"), COSTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_costs_memory_is_worse_by_cell_owner_and_op(
    clean: dict[Candidate, BaselineCell], plant: Plant, cell: Candidate, owners: set[str]
) -> None:
    with plant():
        differences = compare_cells([clean[cell]], [predict(cell)])
    (difference,) = differences
    assert exit_code(differences) == 1
    assert (difference.name, difference.change) == (clean[cell].name, "worse")
    assert difference.delta_bytes > 0 and difference.owner in owners, difference
    assert difference.op and difference.op_delta_bytes > 0
    assert OPS.get(plant, difference.op) == difference.op


def test_a_clean_tree_is_the_same_to_the_byte(clean: dict[Candidate, BaselineCell]) -> None:
    differences = compare_cells([clean[WHOLE]], [predict(WHOLE)])
    assert {d.change for d in differences} == {"same"} and exit_code(differences) == 0


def test_an_improvement_makes_the_baseline_stale(clean: dict[Candidate, BaselineCell]) -> None:
    with checkpointing_that_does_nothing():
        before = [predict(CHECKPOINTED)]
    differences = compare_cells(before, [clean[CHECKPOINTED]])
    assert exit_code(differences) == 5
    assert [d.change for d in differences] == ["better"]
    assert differences[0].owner == "activations" and differences[0].delta_bytes < 0
