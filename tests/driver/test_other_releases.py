"""The rules of later releases of torch, held under the installed one against what those left.

The files under `releases/` were written by `tests.driver.release_histories` under each release.
"""

import gzip
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.card.targets import target_named
from bench.evidence.allocator_check import check_allocator
from bench.evidence.recording import Recording
from bench.simulate.kernels import KernelContext, KernelTable
from bench.simulate.torch_rules import BY_RELEASE, TorchRules, rules_of
from bench.simulate.trace.costs import name_of, tensors_in
from bench.simulate.trace.on_card import results_on_card
from distill.spec.pins import Pins
from tests.driver.release_histories import CALLS, CARD_BYTES, FOLDER

FILES = sorted(FOLDER.glob("torch-*.json.gz"))
PINS = Pins(attention="flash", cublas_workspace_config=":4096:2:16:8", allocator="expandable")


@dataclass(frozen=True)
class Left:
    """What one release left."""

    torch: str
    recordings: list[Recording]
    requests: dict[str, list[int]]

    @property
    def rules(self) -> TorchRules:
        return rules_of(self.torch)


def left_by(path: Path) -> Left:
    document = json.loads(gzip.decompress(path.read_bytes()))
    recordings = [Recording.model_validate(one) for one in document["recordings"]]
    return Left(document["torch"], recordings, document["requests"])


@pytest.fixture(params=FILES, ids=lambda path: path.name.removesuffix(".json.gz"), scope="module")
def left(request: pytest.FixtureRequest) -> Left:
    return left_by(request.param)


def predicted_requests(rules: TorchRules) -> dict[str, list[int]]:
    """Bytes that each call asks for by the rules, in order, as the ledger enters them."""
    table = KernelTable(KernelContext(target_named("rtx4050"), PINS, False, rules))
    kept: set[str] = set()
    found = {}
    for name, call in CALLS.items():
        op, operands = call("meta")
        result = op(*operands)
        results = result if isinstance(result, tuple) else (result,)
        outputs = tensors_in(results_on_card(op, operands, results, rules))
        hidden = [one for one in table(name_of(op), operands, outputs) if one.kept_by not in kept]
        kept |= {one.kept_by for one in hidden if one.kept_by is not None}
        sizes = [
            *(one.size_bytes for one in hidden if one.before),
            *(tensor.untyped_storage().nbytes() for tensor in outputs),
            *(one.size_bytes for one in hidden if not one.before),
        ]
        found[name] = [size for size in sizes if size]
    return found


def test_every_release_with_rules_of_its_own_left_a_file() -> None:
    left = {tuple(map(int, left_by(path).torch.split(".")[:2])) for path in FILES}
    assert left == set(BY_RELEASE)


def test_blocks_are_chosen_as_the_release_chose_them(left: Left) -> None:
    for recording in left.recordings:
        assert check_allocator(recording, CARD_BYTES, left.rules) == []


def test_calls_ask_for_what_they_asked_for_under_the_release(left: Left) -> None:
    assert predicted_requests(left.rules) == left.requests


@pytest.mark.parametrize("field", [one.name for one in fields(TorchRules)])
def test_no_rule_could_be_that_of_another_release(field: str) -> None:
    """For each rule that changed some file shows that it did."""

    def departs(left: Left) -> bool:
        wrong = [rules for rules in BY_RELEASE.values() if differs(rules, left.rules)]
        return any(
            predicted_requests(rules) != left.requests
            or any(check_allocator(one, CARD_BYTES, rules) for one in left.recordings)
            for rules in wrong
        )

    def differs(one: TorchRules, other: TorchRules) -> bool:
        return bool(getattr(one, field) != getattr(other, field))

    assert any(departs(left_by(path)) for path in FILES)


@pytest.mark.parametrize(
    ("installed", "same_as"),
    [("2.11.0", (2, 11)), ("2.13.0+cu130", (2, 13)), ("2.99.1", (2, 15)), ("2.10.0", (2, 11)),
     ("2.12.0a0+git1234567", (2, 12)), ("3.0.0", (2, 15)), ("no release", (2, 11))],
)  # fmt: skip
def test_a_release_without_a_row_has_the_rules_of_the_one_before(
    installed: str, same_as: Any
) -> None:
    assert rules_of(installed) is BY_RELEASE[same_as]


def test_the_installed_torch_has_a_row() -> None:
    assert tuple(map(int, torch.__version__.split(".")[:2])) in BY_RELEASE
