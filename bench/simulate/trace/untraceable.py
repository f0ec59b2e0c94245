"""A candidate's program, or one sentence that says why there is none.

A refusal by a model or a kernel is an answer; an error that this project's own code raises is a
defect and is left as it is.
"""

import traceback
from pathlib import Path

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from bench.simulate.kernels.row import KernelRefused
from bench.simulate.program.program import Program
from bench.simulate.trace.ledger import Kernels
from bench.simulate.trace.refusals import Untraceable
from bench.simulate.trace.tracer import BY_THE_TEACHER, trace_step
from distill.base.errors import UserError
from distill.spec.candidate import Candidate
from distill.spec.pins import Pins

UNPREDICTABLE = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

REFUSALS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)
"""Errors of models for images of a size, and of kernels for a shape, that they can't take."""

OWN = tuple(Path(__file__).parents[3] / package for package in ("bench", "distill"))

PASSES_ON = ("__torch_function__", "__torch_dispatch__", "_rebuilt", "_attention", "_call")
"""Functions of ours whose last line is a call of torch: what C++ raises there is torch's error."""


def trace_or_refuse(candidate: Candidate, pins: Pins, kernels: Kernels) -> Program:
    """The candidate's program. Raises `UserError` where its model can't be traced."""
    try:
        return trace_step(candidate, attention=pins.attention, kernels=kernels)
    except UNPREDICTABLE as error:
        raise UserError(
            f"{_culprit(candidate, error)[0]} can't be traced without its data: {error.func} "
            "needs the values of a tensor, or has no fake kernel. Measure it on a GPU instead."
        ) from error
    except KernelRefused as error:
        title, option = _culprit(candidate, error)
        fp32 = ", or --precision fp32" if pins.attention == "flash" else ""
        raise UserError(f"{title} has {error}. Choose another {option}{fp32}.") from error
    except Untraceable as error:
        raise UserError(
            f"{_culprit(candidate, error)[0]}, or the step that trains it, can't be predicted: "
            f"{error}. Leave that out, or measure it on a GPU."
        ) from error
    except REFUSALS as error:
        if _is_own(error):
            raise
        title, option = _culprit(candidate, error)
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{title} can't be run on {candidate.student.image_size} px, or does what can't be "
            f"traced: {words.rstrip('.')}. Choose another {option} or --image-size, or measure "
            "it on a GPU."
        ) from error


def _culprit(candidate: Candidate, error: Exception) -> tuple[str, str]:
    """The model that is to blame, and the option that names another."""
    if candidate.teacher is not None and BY_THE_TEACHER in getattr(error, "__notes__", ()):
        return candidate.teacher.title, "--teacher"
    return candidate.student.title, "--model"


def _is_own(error: Exception) -> bool:
    """True if this project's code raised it."""
    *_, last = traceback.extract_tb(error.__traceback__)
    ours = any(Path(last.filename).is_relative_to(folder) for folder in OWN)
    return ours and last.name not in PASSES_ON
