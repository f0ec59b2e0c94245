"""Noise that is run for its bytes: no update of it may be skipped."""

from dataclasses import replace

import torch
from torch.amp.grad_scaler import GradScaler

from bench.measure.noise import keep_every_update
from distill.spec.candidate import Candidate
from distill.step.assemble import assemble
from distill.step.models import build


def test_the_loss_is_not_scaled_where_a_scaler_would(small_candidate: Candidate) -> None:
    candidate = replace(small_candidate, teacher=None)
    step = assemble(candidate, build(candidate.student), None, torch.device("cpu"))
    step.scaler = GradScaler("cpu")
    assert step.scaler.get_scale() == 65536
    keep_every_update(step)
    assert step.scaler.get_scale() == 1


def test_where_nothing_is_scaled_nothing_changes(small_candidate: Candidate) -> None:
    candidate = replace(small_candidate, teacher=None)
    step = assemble(candidate, build(candidate.student), None, torch.device("cpu"))
    keep_every_update(step)
    assert step.scaler.state_dict() == {}
