"""Stand-ins take every argument of the real thing, or refuse it by its name."""

import gc
import inspect
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.optim.optimizer import _get_value

from bench.simulate.kernels.row import KernelRefused
from bench.simulate.program.program import NEVER, Program
from bench.simulate.trace import fake_cuda as stand_ins
from bench.simulate.trace.backward import BackwardWalk
from bench.simulate.trace.fake_cuda import fake_cuda
from bench.simulate.trace.ledger import Ledger
from bench.simulate.trace.tracer import trace_step, watch
from bench.simulate.trace.untraceable import trace_or_refuse
from distill.base.errors import UserError
from distill.spec.candidate import Candidate
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe
from distill.step import models, step
from distill.step.batch_result import BatchResult
from distill.step.models import build
from distill.step.step import Step


def small(**changes) -> Candidate:
    whole = load_recipe("demo").candidate("student", micro_batch=4)
    return replace(whole, precision="fp32", implementation="foreach", **changes)


def inside(attention: str = "efficient"):
    """On fake tensors, with a walk that does as it is told."""
    return fake_cuda("cuda", attention, lambda loss, *, retain_graph: BackwardWalk().run(loss))


def named(function) -> set[str]:
    return {name for name in inspect.signature(function).parameters if name != "kernel"}


def schema_names(op) -> list[str]:
    return [argument.name for argument in op._schema.arguments]


def test_each_stand_in_has_the_arguments_of_the_real_thing() -> None:
    aten = torch.ops.aten
    attention = aten.scaled_dot_product_attention.default
    assert named(stand_ins._attention) == set(schema_names(attention))
    names = {"self": "parameters"}
    for op in (aten._fused_sgd_.default, aten._fused_sgd_.tensor_lr):
        assert named(stand_ins._fused_sgd) == {names.get(n, n) for n in schema_names(op)}
    backward = stand_ins.ReroutedCalls._backward
    assert named(backward) - {"loss"} == named(torch.Tensor.backward)
    assert named(stand_ins._no_grad_for_inference) == named(torch.inference_mode)


# -- backward


def scalar() -> tuple[Tensor, Tensor]:
    leaf = torch.ones(3, device="cuda", requires_grad=True)
    return leaf, (leaf * leaf).sum()


@pytest.mark.parametrize("name", ["gradient", "create_graph", "inputs"])
def test_an_argument_that_the_walk_has_no_use_for_is_refused_by_name(name) -> None:
    with inside():
        leaf, loss = scalar()
        value = {"gradient": torch.ones((), device="cuda"), "create_graph": True, "inputs": [leaf]}
        with pytest.raises(NotImplementedError, match=rf"backward\({name}=…\) can't be traced"):
            loss.backward(**{name: value[name]})


def test_arguments_at_their_defaults_are_no_arguments() -> None:
    with inside():
        leaf, loss = scalar()
        loss.backward(gradient=None, retain_graph=False, create_graph=False, inputs=None)
        assert leaf.grad is not None and leaf.grad.shape == (3,)


def test_a_planted_create_graph_is_no_fault_of_the_model(monkeypatch) -> None:
    monkeypatch.setattr(Step, "_accumulate", calling_backward_with(create_graph=True))
    with pytest.raises(NotImplementedError, match="create_graph"):
        trace_step(small(), attention="efficient")


def calling_backward_with(**arguments):
    """`Step._accumulate` with arguments to its `backward`."""

    def accumulate(self: Step, batch, weight: float) -> BatchResult:
        loss, logits = self._forward(batch)
        value = loss.detach().cpu()
        scaled = self.scaler.scale(loss * weight)
        del loss
        self.mark("backward")
        scaled.backward(**arguments)
        return BatchResult(value, logits)

    return accumulate


def really_run(wanted: Candidate) -> Program:
    """The same parts on real tensors, backward by PyTorch's engine."""
    student = build(wanted.student, checkpointing=wanted.checkpointing)
    ledger = Ledger("cpu", {"student": student})
    gc.disable()
    try:
        with mock.patch("distill.step.step.inference_mode", torch.no_grad):
            return watch(ledger, wanted, student, None, torch.device("cpu"))
    finally:
        gc.enable()


def after_setup(program: Program) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and deaths from the first micro-batch on, deaths as distances from its begin."""
    first = next(i for i, span in enumerate(program.spans) if span.part != "setup")
    begin = int(np.searchsorted(program.span_of, first))
    death = program.death[begin:]
    return program.base[begin:], np.where(death == NEVER, NEVER, death - begin)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [0, 1])
def test_a_retained_graph_lives_as_long_as_in_pytorchs_engine(checkpointing, monkeypatch) -> None:
    wanted = small(teacher=None, checkpointing=checkpointing)
    plain = trace_step(wanted, attention="efficient", device_type="cpu", in_place=False)
    monkeypatch.setattr(Step, "_accumulate", calling_backward_with(retain_graph=True))
    traced = trace_step(wanted, attention="efficient", device_type="cpu", in_place=False)
    real = really_run(wanted)
    for ours, theirs in zip(after_setup(traced), after_setup(real), strict=True):
        assert np.array_equal(ours, theirs)
    assert traced.live_bytes(traced.base).sum() > plain.live_bytes(plain.base).sum()


@pytest.mark.parametrize("method", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_are_refused_as_they_are_registered_and_where_they_are(method) -> None:
    with inside():
        leaf, _ = scalar()
        with pytest.raises(NotImplementedError, match=f"{method} can't be traced"):
            getattr(leaf, method)(lambda gradient: None)
    leaf = torch.ones(3, requires_grad=True)
    getattr(leaf, method)(lambda gradient: None)
    with pytest.raises(NotImplementedError, match="a hook on a parameter"):
        BackwardWalk().run((leaf * leaf).sum())


# -- item


@pytest.mark.usefixtures("models_are_built_anew")
def test_a_number_that_a_model_reads_is_not_made_up(monkeypatch) -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3 * 32 * 32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(1) * (2 if x.mean().item() > 0 else 1))

    with inside(), pytest.raises(DataDependentOutputException):
        torch.ones(1, device="cuda").item()
    monkeypatch.setattr(models, "_create", lambda *_: Reading())
    pins = pins_for("fp32", (8, 9), deterministic=False, allocator="native")
    whole = load_recipe("cifar10").candidate("teacher", micro_batch=4)
    with pytest.raises(UserError, match="can't be traced without its data"):
        trace_or_refuse(replace(whole, precision="fp32"), pins, lambda *_: ())


def test_the_scaler_finds_no_infinity_and_an_optimizer_has_made_one_step() -> None:
    with inside():
        assert _get_value(torch.ones(())) == 1.0
        scaler = torch.amp.GradScaler("cuda")
        parameter = torch.ones(3, device="cuda", requires_grad=True)
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        scaler.scale((parameter * parameter).sum()).backward()
        with mock.patch.object(optimizer, "step") as stepped:
            scaler.step(optimizer)
        assert stepped.called


# -- fused SGD, inference mode


@pytest.mark.parametrize("more", [{}, {"nesterov": True}, {"maximize": True}])
def test_fused_sgd_takes_all_that_the_optimizer_gives_it_and_no_more(more) -> None:
    with inside():
        parameter = torch.ones(3, device="cuda", requires_grad=True)
        parameter.grad = torch.ones(3, device="cuda")
        torch.optim.SGD([parameter], lr=0.1, momentum=0.9, fused=True, **more).step()
        with pytest.raises(TypeError, match="unheard_of"):
            torch._fused_sgd_([parameter], [parameter.grad], [], unheard_of=1)


def test_inference_mode_can_be_switched_off_by_nobody() -> None:
    with inside():
        with step.inference_mode():
            assert not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        with pytest.raises(NotImplementedError, match="mode"):
            step.inference_mode(mode=False)


# -- attention


def heads(dtype: torch.dtype = torch.float16) -> list[Tensor]:
    return [
        torch.ones(2, 4, 16, 32, dtype=dtype, device="cuda", requires_grad=True) for _ in range(3)
    ]


@pytest.mark.parametrize("kernel", ["flash", "efficient"])
@pytest.mark.parametrize(
    "arguments", [{"dropout_p": 0.5}, {"is_causal": True}, {"scale": 0.3}, {"enable_gqa": False}]
)
def test_arguments_that_both_kernels_know_reach_them(kernel, arguments) -> None:
    name = f"_scaled_dot_product_{kernel}_attention"
    seen = []

    def watching(*args, **kwargs):
        seen.append((args, kwargs))
        return (torch.empty(2, 4, 16, 32, device="cuda"),)

    with inside(kernel), mock.patch.object(torch.ops.aten, name, watching):
        F.scaled_dot_product_attention(*heads(), **arguments)
    ((args, kwargs),) = seen
    after = args[3:] if kernel == "flash" else args[5:]
    assert after[:2] == (arguments.get("dropout_p", 0.0), arguments.get("is_causal", False))
    assert kwargs == {"scale": arguments.get("scale")}


def mask(dtype: torch.dtype) -> Tensor:
    return torch.ones(2, 4, 16, 16, dtype=dtype, device="cuda")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda: {"enable_gqa": True}, "with enable_gqa, which can't be traced"),
        (lambda: {"attn_mask": mask(torch.bool)}, "with an attn_mask of booleans"),
        (
            lambda: {"attn_mask": mask(torch.float16), "is_causal": True},
            "with both attn_mask and is_causal",
        ),
    ],
    ids=["enable_gqa", "booleans", "mask and causal"],
)
def test_arguments_that_are_not_modelled_are_refused_by_name(arguments, words) -> None:
    with inside("efficient"), pytest.raises(KernelRefused, match=words):
        F.scaled_dot_product_attention(*heads(), **arguments())


def test_an_argument_of_a_torch_to_come_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="unheard_of"):
        stand_ins._attention("efficient", *heads_on_cpu(), unheard_of=1)


def heads_on_cpu() -> list[Tensor]:
    return [torch.ones(2, 4, 16, 32) for _ in range(3)]


def test_logsumexp_is_kept_for_whichever_operand_has_a_gradient() -> None:
    name = "_scaled_dot_product_efficient_attention"
    for wanting in range(3):
        with inside(), mock.patch.object(torch.ops.aten, name) as efficient:
            operands = [t.detach() for t in heads()]
            operands[wanting].requires_grad_()
            F.scaled_dot_product_attention(*operands)
        assert efficient.call_args.args[4] is True
