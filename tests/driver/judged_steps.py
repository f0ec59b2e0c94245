"""Users' steps, predicted and recorded under the stub driver.

`python -m tests.driver.judged_steps` prints the table of docs/prediction.md.
"""

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from unittest import mock

from bench.predict.any_step import StepPrediction, predict_step
from bench.simulate.user_step import step_prediction
from bench.simulate.user_step.step_trace import TracedStep
from distill.report.tables import Row, as_markdown
from distill.spec.candidate import Allocator
from tests.driver.build import build
from tests.driver.children import answers
from tests.driver.recordings import TARGET

TEN, OPS = "tests.driver.user_steps", "tests.driver.op_steps"

CONVOLUTIONAL = (
    "timm: ViT, fp16, scaler, label smoothing, clipping",
    "torchvision: ResNet-18, SGD, label smoothing",
    "U-Net, group norm, mean of squares, Adam",
)
"""Their convolutions are cuDNN's on a card and PyTorch's own under the driver."""

StepRequest = tuple[str, str, Allocator]
"""A module with a table `STEPS`, a name in it, an allocator."""


@dataclass(frozen=True)
class JudgedStep:
    """A step's prediction and what PyTorch took. Requests are (bytes, op) and bytes, in order."""

    prediction: StepPrediction
    requests: list[tuple[int, str]]
    recorded_requests: list[int]
    recorded: tuple[int, int, int]

    @property
    def errors(self) -> tuple[int, ...]:
        """Predicted − recorded peaks: requested, allocated, reserved bytes."""
        one = self.prediction
        pairs = zip((one.requested, one.allocated, one.reserved), self.recorded, strict=True)
        return tuple(predicted - recorded for predicted, recorded in pairs)

    @property
    def is_repeated(self) -> bool:
        """True if every request is the predicted one."""
        return [size for size, _ in self.requests] == self.recorded_requests


def predicted(asked: StepRequest) -> tuple[StepPrediction, list[tuple[int, str]]]:
    """A step's prediction for the driver's card, and its requests in order."""
    module, name, allocator = asked
    seen: list[TracedStep] = []
    trace = step_prediction.trace_updates

    def kept(*arguments: object) -> TracedStep:
        seen.append(trace(*arguments))  # type: ignore[arg-type]
        return seen[0]

    with mock.patch.object(step_prediction, "trace_updates", kept):
        prediction = predict_step(import_module(module).STEPS[name], TARGET, allocator=allocator)
    program = seen[0].program
    requests = zip(program.base.tolist(), program.op.tolist(), strict=True)
    return prediction, [(size, op) for size, op in requests if size]


def judged_steps(
    library: Path, folder: Path, wanted: Iterable[StepRequest]
) -> dict[StepRequest, JudgedStep]:
    """Each step predicted, and recorded in one process that forks."""
    found = {asked: predicted(asked) for asked in wanted}
    requests = [[*asked, prediction.updates] for asked, (prediction, _) in found.items()]
    child = "tests.driver.steps_child"
    answered = answers(library, child, folder, requests, TARGET.total_bytes)
    judged = {}
    for (asked, (prediction, sizes)), answer in zip(found.items(), answered, strict=True):
        document = json.loads(answer)
        requested, allocated, reserved = document["peaks"]
        judged[asked] = JudgedStep(
            prediction, sizes, document["requests"], (requested, allocated, reserved)
        )
    return judged


def _row(asked: StepRequest, one: JudgedStep) -> Row:
    return {
        "step": asked[1],
        "allocator": asked[2],
        "allocated B": f"{one.recorded[1]:,}",
        "off by": f"{one.errors[1]:+,}",
        "reserved B": f"{one.recorded[2]:,}",
        "off by ": f"{one.errors[2]:+,}",
        "most foreseen B": f"{one.prediction.reserved_max:,}",
        "requests": "equal" if one.is_repeated else "differ",
    }


def main() -> None:
    """Build, predict, record, print."""
    names = import_module(TEN).STEPS
    wanted: list[StepRequest] = [(TEN, name, "expandable") for name in names]
    wanted += [(TEN, name, "native") for name in names if name not in CONVOLUTIONAL]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = judged_steps(build(folder), folder, wanted)
        print(as_markdown([_row(asked, one) for asked, one in found.items()]))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
