"""Signals at random moments to a command with workers: one sentence, and nothing left running."""

import json
import random
import signal
import time
from pathlib import Path

import pytest

from tests.signalled import signalled

SEED = 17
CASES = (
    ("group", signal.SIGINT, 130),
    ("worker", signal.SIGTERM, 143),
    ("parent", signal.SIGKILL, -9),
)


@pytest.mark.slow
@pytest.mark.parametrize(("to", "number", "code"), CASES)
def test_a_probe_that_gets_a_signal(
    recipe_file: Path, tmp_path: Path, to: str, number: signal.Signals, code: int
) -> None:
    draw = random.Random(f"{SEED} {to} {number}")
    probe = ("probe", "--vram", "6", "--recipe", str(recipe_file), "--device", "predict")
    command = signalled(tmp_path, "-m", "bench", *probe)
    command.wait_for_workers(2)
    delay = draw.uniform(0, 3)
    print(f"seed {SEED}: {number.name} to the {to} after {delay:.3f} s")
    time.sleep(delay)
    command.send(number, to)
    status, said = command.end()
    assert status == code, said
    errors = [line for line in said.splitlines() if not line.startswith("  predicting")]
    if number == signal.SIGKILL:
        assert errors == []
    else:
        assert len(errors) == 1 and errors[0].startswith(f"Error: Stopped by {number.name}")
    for journal in tmp_path.glob("results/probe/*/trials.jsonl"):
        assert [json.loads(line) for line in journal.read_text().splitlines()]
    assert not list(tmp_path.glob("tmp/*")) and not list(tmp_path.glob("profiles/*"))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["bench", "distill"])
def test_a_command_that_is_still_loading(tmp_path: Path, module: str) -> None:
    words = {"bench": ("audit",), "distill": ("run", "--recipe", "demo", "--device", "cpu")}
    draw = random.Random(f"{SEED} {module}")
    command = signalled(tmp_path, "-m", module, *words[module])
    delay = draw.uniform(0.5, 2.5)
    print(f"seed {SEED}: SIGINT to the group after {delay:.3f} s")
    time.sleep(delay)
    command.send(signal.SIGINT, "group")
    status, said = command.end()
    assert status == 130, said
    assert [line for line in said.splitlines() if line.startswith("Error: Stopped")]
    assert "Traceback" not in said
