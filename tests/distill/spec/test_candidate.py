"""Checkpointing of a candidate: a number or `cheap`, by name, by order, in files."""

from dataclasses import asdict, replace

import pytest

from distill.base.errors import UserError
from distill.spec.candidate import Candidate, Checkpointing
from distill.spec.recipe import load_recipe
from distill.spec.validated import document_as

PLAIN = replace(load_recipe("demo").candidate("student"), precision="fp16")


def with_checkpointing(value: object) -> Candidate:
    return document_as(Candidate, asdict(PLAIN) | {"checkpointing": value}, "The candidate")


@pytest.mark.parametrize(
    ("checkpointing", "label"),
    [(0, "fp16"), ("cheap", "fp16+cheap"), (1, "fp16+ckpt"), (2, "fp16+ckpt/2")],
)
def test_a_candidate_is_read_as_it_was_written(checkpointing: Checkpointing, label: str) -> None:
    candidate = with_checkpointing(checkpointing)
    assert candidate == replace(PLAIN, checkpointing=checkpointing)
    assert candidate.label == label


def test_columns_go_from_none_over_cheap_to_every_block() -> None:
    kinds = [replace(PLAIN, checkpointing=kind) for kind in (2, 1, "cheap", 0)]
    kinds.sort(key=lambda candidate: candidate.checkpointing_order)
    assert [candidate.checkpointing for candidate in kinds] == [0, "cheap", 1, 2]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("dear", "checkpointing = 'dear' is not possible: Input should be a valid integer, or 'ch"),
        (-1, "checkpointing = -1 is not possible: Input should be greater than or equal to 0, or"),
        (True, "checkpointing = True is not possible: Input should be a valid integer, or 'cheap'"),
        (None, "checkpointing = None is not possible"),
        ([["cheap"]], "checkpointing = .* is not possible"),
    ],
)
def test_what_is_neither_is_one_sentence(value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        with_checkpointing(value)
