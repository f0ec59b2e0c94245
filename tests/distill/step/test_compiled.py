"""Blocks compiled one by one: one graph serves all, keys stay, and what can't be is a sentence.

Graphs are captured as they are for a run; Inductor alone is left out, which takes minutes on a CPU.
"""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from distill.base.errors import UserError
from distill.spec.recipe import load_recipe
from distill.step import compiled
from distill.step.compiled import (
    CompileWatch,
    check_compilable,
    compile_blocks,
    compile_failures_told,
)
from distill.step.models import get_vit_model

# Dynamo asks a block's input for its gradient, and keeps the warning from a user, not from a test.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

SHAPE = {"image_size": 8, "patch_size": 4, "depth": 3, "width": 16, "heads": 2}
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
CANDIDATE = load_recipe("demo").candidate("student")


@pytest.fixture(autouse=True)
def fresh():
    """No graph of another test."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def captured_only(monkeypatch) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")


def pair(checkpointing: int = 0) -> tuple[nn.Module, nn.Module]:
    """A model, and the same with its blocks compiled."""
    torch.manual_seed(0)
    plain = get_vit_model("vit_tiny", 5, gradient_checkpointing=checkpointing, **SHAPE).train()
    other = copy.deepcopy(plain)
    compile_blocks([other])
    return plain, other


def gradients(model: nn.Module) -> list[Tensor]:
    model(IMAGES).square().sum().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.usefixtures("captured_only")
@pytest.mark.parametrize("checkpointing", [0, 1])
def test_keys_and_gradients_are_the_plain_models(checkpointing: int) -> None:
    plain, other = pair(checkpointing)
    assert list(plain.state_dict()) == list(other.state_dict())
    for one, compiled_one in zip(gradients(plain), gradients(other), strict=True):
        torch.testing.assert_close(one, compiled_one)


@pytest.mark.usefixtures("captured_only")
def test_one_graph_serves_all_blocks_and_another_number_of_images_is_told() -> None:
    _, other = pair()
    watch = CompileWatch()
    gradients(other)
    first = watch.news()
    assert first is not None and first.startswith("compiled 1 graph(s) of blocks in ")
    gradients(other)
    assert watch.news() is None
    other(IMAGES[:2])
    again = watch.news()
    assert again is not None and "again" in again and again.endswith("a setting is new")


class Asking(nn.Module):
    """A block whose way depends on its numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.usefixtures("captured_only")
def test_a_block_that_is_no_one_graph_is_a_sentence() -> None:
    model = nn.Sequential()
    model.blocks = nn.Sequential(Asking())
    compile_blocks([model])
    words = "can't be compiled as one graph: .* without --compile"
    with pytest.raises(UserError, match=words), compile_failures_told():
        model.blocks(IMAGES)


def test_a_model_without_a_list_of_blocks_is_a_sentence() -> None:
    with pytest.raises(UserError, match="Linear has no list of blocks"):
        compile_blocks([nn.Linear(2, 2)])


def test_cheap_is_refused() -> None:
    with pytest.raises(UserError, match="Stage student has checkpointing cheap, which keeps"):
        check_compilable(replace(CANDIDATE, checkpointing="cheap"), "cpu")


@pytest.mark.parametrize(("device_type", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_without_a_compiler_the_cure_is_said(
    device_type: str, variable: str, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match=f"needs a compiler.* name it in {variable}, or leave out"):
        check_compilable(CANDIDATE, device_type)
    own = tmp_path / "own"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv(variable, str(own))
    check_compilable(CANDIDATE, device_type)
