"""Mistakes that no trace can follow: each is refused by its name."""

import threading
from functools import partial
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.simulate.trace import tracer
from distill.base.errors import UserError
from distill.step import checkpointing, models
from distill.step.prepare import Prepare
from distill.step.step import Step
from tests.bench.compare.planting import (
    CHECKPOINTED,
    WHOLE,
    Plant,
    around,
    backward_by,
    before,
    built,
    forwarded,
    in_training,
    kept,
    last_kept,
    predict,
    prepared,
)


def a_graph_of_the_gradients():
    return backward_by(lambda _, scaled: scaled.backward(create_graph=True))


def a_hook_on_the_loss():
    return forwarded(lambda self, loss: [loss, loss.register_hook(partial(kept, self))][0])


def a_hook_on_several_losses():
    hook = torch.autograd.graph.register_multi_grad_hook
    return forwarded(lambda self, loss: [loss, hook([loss], partial(kept, self))][0])


def a_gradient_kept_of_each_activation():
    return built(in_training(lambda *those: those[-1].retain_grad()))


def a_hook_on_every_parameter_as_a_model_is_built():
    def build(*args, **kwargs) -> nn.Module:
        model = models.build(*args, **kwargs)
        for parameter in model.parameters():
            parameter.register_hook(torch.clone)
        return model

    return mock.patch.object(tracer, "build", build)


def a_hook_on_a_node_of_the_graph():
    return forwarded(
        lambda self, loss: [loss, loss.grad_fn.register_hook(lambda *g: kept(self, g))][0]
    )


def a_hook_before_a_node_of_the_graph():
    return forwarded(
        lambda self, loss: [loss, loss.grad_fn.register_prehook(lambda *g: kept(self, g))][0]
    )


def a_backward_hook_of_a_module():
    return built(
        lambda self: self.student.head.register_full_backward_hook(
            lambda module, _, gradients: kept(module, gradients)
        )
    )


def anomaly_detection():
    return around("train", torch.autograd.detect_anomaly)


def backward_of_several_losses():
    return backward_by(lambda _, scaled: torch.autograd.backward([scaled]))


def gradients_beside_those_of_the_leaves():
    return backward_by(
        lambda self, scaled: kept(self, torch.autograd.grad(scaled, [*self.student.parameters()]))
    )


def reentrant_checkpointing():
    original = checkpointing.checkpoint
    return mock.patch.object(
        *(checkpointing, "checkpoint", lambda block, x, **_: original(block, x, use_reentrant=True))
    )


class Clipped(torch.autograd.Function):
    """The identity, its gradient clipped in a copy."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient.clone().clamp_(-1, 1)


def a_backward_in_python():
    return forwarded(lambda _, loss: Clipped.apply(loss))


def attention_that_keeps_its_scores():
    return around("_forward", lambda: sdpa_kernel([SDPBackend.MATH]))


def a_search_for_the_fastest_convolution():
    return around("_forward", lambda: torch.backends.cudnn.flags(benchmark=True))


def a_copy_made_in_a_thread():
    def change(self: Prepare, images: Tensor) -> Tensor:
        thread = threading.Thread(target=lambda: kept(self, images.clone()))
        thread.start()
        thread.join()
        return images

    return prepared(change)


def a_storage_that_grows_unseen():
    def grow(self: Step) -> None:
        next(self.student.parameters()).grad = None
        last_kept(self, torch.zeros(1, device="cuda"))
        self.the_last.untyped_storage().resize_(10**6)

    return before("train", grow)


def compiled_code():
    return built(lambda self: setattr(self, "student", torch.compile(self.student)))


def answers_kept_on_the_device():
    """No peak of two updates and an evaluation shows what is left by the last of them."""

    def register(self: Step) -> None:
        self.student.register_forward_hook(
            lambda module, _, logits: None if module.training else kept(module, logits)
        )

    return built(register)


REFUSED: list[tuple[Plant, str]] = [
    (a_graph_of_the_gradients, "backward(create_graph=…)"),
    (a_hook_on_the_loss, "register_hook"),
    (a_hook_on_several_losses, "register_hook"),
    (a_gradient_kept_of_each_activation, "retain_grad"),
    (a_hook_on_every_parameter_as_a_model_is_built, "a hook on cls_token"),
    (a_hook_on_a_node_of_the_graph, "a hook on a node of the graph"),
    (a_hook_before_a_node_of_the_graph, "a hook on a node of the graph"),
    (a_backward_hook_of_a_module, "a hook on a node of the graph"),
    (anomaly_detection, "anomaly detection"),
    (backward_of_several_losses, "torch.autograd.backward or grad"),
    (gradients_beside_those_of_the_leaves, "torch.autograd.backward or grad"),
    (reentrant_checkpointing, "CheckpointFunction, an autograd.Function,"),
    (a_backward_in_python, "Clipped, an autograd.Function,"),
    (attention_that_keeps_its_scores, "torch.backends.cuda.flash_sdp_enabled"),
    (a_search_for_the_fastest_convolution, "torch.backends.cudnn.benchmark"),
    (a_copy_made_in_a_thread, "aten.clone.default in a thread of its own"),
    (a_storage_that_grows_unseen, "UntypedStorage.resize_"),
    (compiled_code, "torch.compile"),
    (answers_kept_on_the_device, "B that evaluating leaves on the device each time"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "name"), REFUSED, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_cannot_be_traced_is_refused_by_its_name(plant: Plant, name: str) -> None:
    with plant(), pytest.raises(UserError) as refused:
        predict(CHECKPOINTED)
    assert f"{name} " in str(refused.value) and "can't be traced" in str(refused.value)


def test_a_model_may_keep_what_it_makes_at_its_first_evaluation() -> None:
    def register(self: Step) -> None:
        self.student.register_forward_hook(
            lambda module, _, logits: (
                None if module.training else module.__dict__.setdefault("c", logits)
            )
        )

    with built(register):
        assert predict(WHOLE).reserved_bytes > 0


def test_a_model_may_keep_what_it_makes_until_it_trains_again() -> None:
    """As timm's LeViT and EfficientFormer keep their attention biases."""

    def register(self: Step) -> None:
        original = self.student.train

        def train(mode: bool = True) -> nn.Module:
            self.student.__dict__.pop("cached", None)
            return original(mode)

        self.student.train = train
        self.student.register_forward_hook(
            lambda module, _, logits: (
                None if module.training else module.__dict__.setdefault("cached", logits)
            )
        )

    with built(register):
        assert predict(WHOLE).reserved_bytes > 0
