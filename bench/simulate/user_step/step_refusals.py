"""Why a user's step can't be predicted, in a sentence that names the op and the line.

An error of the step's own code that has nothing to do with tracing is left as it is.
"""

import contextlib
import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from bench.simulate.kernels.row import KernelRefused
from bench.simulate.trace.refusals import Untraceable
from distill.base.errors import UserError

OWN = (Path(__file__).parents[2], Path(torch.__file__).parent)
"""Folders whose lines are not the step's: this package's and torch's."""

ITEM = "aten._local_scalar_dense.default"

NO_CARD = (
    *("No CUDA GPUs are available", "Found no NVIDIA driver", "Torch not compiled with CUDA"),
    *(
        "NYI: ",
        "CUDA driver version is insufficient",
        "no CUDA-capable device",
        "CUDA driver initialization",
    ),
)
"""What torch says where a call reached for a card, or has no fake kernel."""

NOTHING_THERE = (
    "The step puts nothing on the device. Build on the one that make_step is given, which is "
    "vram_device in a test."
)


def check_step(step: object) -> None:
    """Refuse what can't be called as an update: without arguments."""
    if not callable(step):
        raise UserError(
            f"make_step gives {type(step).__name__}, not a step: return the function that runs one "
            "update."
        )
    call = step.forward if isinstance(step, nn.Module) else step
    try:
        inspect.signature(call).bind()
    except TypeError as error:
        raise UserError(
            f"The step is called without arguments: {error}. Return a function that needs none."
        ) from error
    except ValueError:  # what is written in C may not say what it takes
        return


@contextlib.contextmanager
def in_a_sentence() -> Iterator[None]:
    """Raise `UserError` for what can't be traced or has no rule inside."""
    try:
        yield
    except DataDependentOutputException as error:
        what = "a number of a tensor (.item(), float(), if)" if str(error.func) == ITEM else ""
        raise _refusal(
            error, f"{error.func} reads {what or 'the values of a tensor'}, which a trace lacks"
        ) from error
    except DynamicOutputShapeException as error:
        raise _refusal(
            error, f"the shape that {error.func} gives depends on the values of a tensor"
        ) from error
    except UnsupportedOperatorException as error:
        raise _refusal(
            error, f"{error.func} has no fake kernel (torch.library.register_fake gives it one)"
        ) from error
    except KernelRefused as error:
        raise _refusal(error, f"it has {error}") from error
    except Untraceable as error:
        raise _refusal(error, str(error)) from error
    except (RuntimeError, AssertionError) as error:
        words = (str(error).splitlines() or [""])[0].rstrip(".")
        if not any(sign in words for sign in NO_CARD):
            raise
        raise _refusal(error, f"a call needs a card ({words})") from error


def _refusal(error: Exception, why: str) -> UserError:
    return UserError(
        f"The step can't be predicted{_where(error)}: {why}. "
        "Leave that out of the step, or measure it on a GPU."
    )


def _where(error: Exception) -> str:
    """The last line of the step's own code that ran, or nothing where there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if not any(path.is_relative_to(folder) for folder in OWN) and path.is_absolute():
            return f" at {path.name}:{frame.lineno}"
    return ""
