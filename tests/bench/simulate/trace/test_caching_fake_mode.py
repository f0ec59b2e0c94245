"""What is remembered of fake tensors is what torch answers, and what can't be is asked anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.simulate.program.program import Program
from bench.simulate.trace import fake_cuda
from bench.simulate.trace.caching_fake_mode import CachingFakeTensorMode
from bench.simulate.trace.tracer import trace_step
from distill.spec.candidate import ModelSpec
from distill.spec.recipe import load_recipe

MODELS = ["vit_tiny_patch16_224", "test_resnet", "test_efficientnet", "test_convnext"]
"""timm keeps the last three for tests: each kind of block of the large ones, few times."""


def traced(model: str, precision: str) -> Program:
    depth = 2 if model.startswith("vit") else None  # the other blocks ask the same again
    wanted = replace(
        load_recipe("cifar10").candidate("student", micro_batch=4),
        student=ModelSpec(name=model, image_size=224, classes=10, depth=depth),
        precision=precision,
        checkpointing=1 if model.startswith("vit") else 0,
    )
    return trace_step(wanted, attention="flash" if precision == "fp16" else "efficient")


def asks_torch_each_time() -> FakeTensorMode:
    mode = FakeTensorMode(allow_fallback_kernels=False, allow_non_fake_inputs=True)
    mode.cache_enabled = False
    return mode


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("model", MODELS)
def test_a_trace_is_the_same_when_torch_is_asked_each_time(model, precision, monkeypatch) -> None:
    remembered = traced(model, precision)
    monkeypatch.setattr(fake_cuda, "CachingFakeTensorMode", asks_torch_each_time)
    asked = traced(model, precision)
    assert remembered.spans == asked.spans and remembered.formulas == asked.formulas
    for name in ("base", "death", "span_of", "owner_of", "op", "module"):
        assert np.array_equal(getattr(remembered, name), getattr(asked, name)), name
    for name in ("span_of", "half", "flops", "traffic", "launches", "by_engine", "waits"):
        assert np.array_equal(getattr(remembered.costs, name), getattr(asked.costs, name)), name


def look(tensor: torch.Tensor) -> tuple:
    return tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype, tensor.device


def shares_storage(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def test_a_result_asked_for_again_looks_the_same_and_is_another_tensor() -> None:
    with CachingFakeTensorMode():
        x = torch.empty(4, 6, device="cuda")
        first, again = x @ x.t(), x @ x.t()
    assert look(first) == look(again)
    assert not shares_storage(first, again) and not shares_storage(again, x)


def test_a_view_asked_for_again_is_of_the_operand_at_hand() -> None:
    with CachingFakeTensorMode():
        one, other = torch.empty(4, 6, device="cuda"), torch.empty(4, 6, device="cuda")
        for _ in range(2):
            for x in (one, other):
                parts = x[1:].t().split(2)
                assert all(shares_storage(part, x) for part in parts)
                assert [part.storage_offset() for part in parts] == [6, 8, 10]


def test_what_is_written_in_place_is_the_operand_itself() -> None:
    with CachingFakeTensorMode():
        x, y = torch.empty(3, device="cuda"), torch.empty(3, device="cuda")
        for _ in range(2):
            assert x.add_(1) is x and y.add_(1) is y
            assert x.mul_(y) is x


def test_what_is_written_to_out_takes_its_shape_every_time() -> None:
    with CachingFakeTensorMode():
        x = torch.empty(3, 4, device="cuda")
        for _ in range(3):
            out = torch.empty(0, device="cuda")
            assert torch.add(x, x, out=out).shape == out.shape == (3, 4)


def test_the_default_dtype_is_part_of_the_question() -> None:
    with CachingFakeTensorMode():
        whole = torch.ones(3, dtype=torch.int64, device="cuda")
        for dtype in (torch.float32, torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
            assert (whole / 2).dtype == dtype


def test_equal_numbers_of_other_types_are_other_questions() -> None:
    with CachingFakeTensorMode():
        x = torch.ones(3, dtype=torch.int64, device="cuda")
        assert [(x * factor).dtype for factor in (2, 2.0, True, 2)] == [
            torch.int64,
            torch.float32,
            torch.int64,
            torch.int64,
        ]


def test_a_shape_changed_in_place_is_seen_the_next_time() -> None:
    with CachingFakeTensorMode():
        for _ in range(2):
            x = torch.empty(2, 3, device="cuda")
            assert x.t_().shape == (3, 2)
            assert x.unsqueeze_(0).shape == (1, 3, 2)


def test_what_depends_on_data_is_refused_every_time() -> None:
    with CachingFakeTensorMode():
        for _ in range(2):
            with pytest.raises(torch._subclasses.fake_tensor.DynamicOutputShapeException):
                torch.empty(3, device="cuda").nonzero()
