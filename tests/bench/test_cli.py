"""`bench` as a user starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench.card.targets import target_named
from bench.cli import main
from bench.probe.grid import families
from bench.probe.probe_plan import ProbePlan
from bench.simulate.families import predict_families
from distill.spec.profile import read_profile
from distill.spec.recipe import load_recipe
from tests.conftest import RECIPE, ROOT, Command, command_in, fresh_command_in

TEACHER = (
    "bench",
    "predict",
    "--stage",
    "teacher",
    "--batch-size",
    "8",
    "--precision",
    "fp16",
    "--checkpointing",
    "1",
    "--json",
)
SHALLOW = RECIPE.replace("depth = 2", "depth = 1")
"""The same chain of stages, each model of one block: the grid is as large and sooner predicted."""

TEACHER_ALONE = """[[stage]]
name = "teacher"
model = { name = "vit_tiny_patch16_224", patch_size = 4, depth = 1, width = 16, heads = 1 }
"""
BREAKDOWN = {
    "weights", "gradients", "optimizer_state", "activations", "teacher", "low_precision_weights",
    "temporaries", "workspaces", "allocator_slack",
}  # fmt: skip


@pytest.fixture(scope="module")
def predicted(tmp_path_factory) -> list[str]:
    """The same prediction from three fresh processes, of which none knows what another traced."""
    folder = tmp_path_factory.mktemp("predict")
    run = fresh_command_in(folder)
    return [run(*TEACHER, XDG_CACHE_HOME=str(folder / str(n))).stdout for n in range(3)]


def test_a_prediction_is_one_json_document_with_every_part(predicted) -> None:
    document = json.loads(predicted[0])
    assert set(document["breakdown"]) == BREAKDOWN
    assert all(isinstance(size, int) for size in document["breakdown"].values())
    assert sum(document["breakdown"].values()) == document["peak_reserved_bytes"]
    assert document["source"] == "predicted"
    assert document["context_bytes"] == 512 * 2**20 and document["context_source"] == "assumed"
    peaks = [document[f"peak_{kind}_bytes"] for kind in ("requested", "allocated", "reserved")]
    assert peaks == sorted(peaks)
    assert document["peak_reserved_max_bytes"] >= document["peak_reserved_bytes"]


def test_three_fresh_processes_predict_the_same_bytes(predicted) -> None:
    documents = [json.loads(text) for text in predicted]
    for document in documents:
        document.pop("trace_seconds")
    assert documents[0] == documents[1] == documents[2]


def test_vit_base_at_batch_8_needs_a_third_of_what_was_claimed(predicted) -> None:
    """The original write-up says 4.5 GB."""
    document = json.loads(predicted[0])
    assert document["peak_allocated_bytes"] / 2**30 == pytest.approx(1.36, abs=0.05)
    assert document["peak_reserved_bytes"] / 2**30 == pytest.approx(1.39, abs=0.1)


# -- the probe


@pytest.fixture
def alone_file(tmp_path: Path) -> Path:
    """A recipe of one stage: the sooner a whole grid is predicted."""
    path = tmp_path / "alone.toml"
    path.write_text(RECIPE[: RECIPE.index("[[stage]]")] + TEACHER_ALONE)
    return path


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A probe of a small recipe, its folder, and the command to run more there."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "small.toml").write_text(SHALLOW)
    run = command_in(folder)
    result = run("bench", "probe", "--vram", "6", "--recipe", "small.toml", "--device", "predict")
    assert result.returncode == 0, result.stderr
    return folder, run, result


def test_a_probe_writes_profile_journal_tables_and_pictures(probed) -> None:
    folder, _, result = probed
    profile = read_profile(folder / "profiles" / "small-6gb.json")
    assert profile.status == "predicted" and profile.verification is None
    assert [choice.stage for choice in profile.choices] == ["teacher", "assistant", "student"]
    for choice in profile.choices:
        assert sum(choice.breakdown.values()) == choice.peak_reserved_bytes
        assert choice.candidate.micro_batch * choice.candidate.accumulation == 64
    out = folder / "results" / "probe" / "small-6gb"
    names = {path.name for path in out.iterdir()}
    assert {"trials.jsonl", "peaks.png", "breakdown.png", "breakdown.csv"} < names
    assert {
        f"{s}.{kind}" for s in ("teacher", "assistant", "student") for kind in ("md", "csv")
    } < names
    for words in ("predicted peak reserved MiB", "assumed", "micro-batch", "distill run --profile"):
        assert words in result.stdout


def test_every_cell_of_the_grid_is_in_the_journal_and_sums(probed) -> None:
    folder, _, _ = probed
    text = (folder / "results" / "probe" / "small-6gb" / "trials.jsonl").read_text()
    trials = [json.loads(line) for line in text.splitlines()]
    cells = {
        (c["stage"], c["precision"], c["checkpointing"], c["micro_batch"])
        for c in (trial["candidate"] for trial in trials)
    }
    grid = {
        (stage, precision, checkpointing, 2**power)
        for stage in ("teacher", "assistant", "student")
        for precision in ("fp32", "fp16", "bf16")
        for checkpointing in (0, "cheap", 1)
        for power in range(1, 10)
    }
    assert grid <= cells and not any(micro_batch == 1 for *_, micro_batch in cells)
    for trial in trials:
        reading = trial["reading"]
        assert sum(reading["breakdown"].values()) == reading["reserved_bytes"]


def test_probing_again_repeats_nothing_and_changes_no_byte(probed) -> None:
    folder, run, first = probed
    files = [
        p for p in folder.rglob("*") if p.is_file() and p.suffix in {".json", ".jsonl", ".png"}
    ]
    before = {path: path.read_bytes() for path in files}
    again = run("bench", "probe", "--vram", "6", "--recipe", "small.toml", "--device", "predict")
    assert "predicting" not in again.stderr
    assert again.stdout == first.stdout
    assert {path: path.read_bytes() for path in files} == before


def test_the_chain_obeys_the_profile(probed) -> None:
    folder, run, _ = probed
    profile = folder / "profiles" / "small-6gb.json"
    arguments = ("run", "--profile", str(profile), "--recipe", "small.toml", "--device", "cpu")
    result = run("distill", *arguments)
    assert result.returncode == 0, result.stderr
    assert "predicted, not verified here" in result.stderr
    assert "RTX 4050" not in result.stdout  # nothing predicted for a card under a CPU's run
    config = folder / "results/from_scratch/digits/teacher/logs/vit_tiny_teacher_config.json"
    written = json.loads(config.read_text())
    chosen = read_profile(profile).choices[0].candidate
    assert written["candidate"]["micro_batch"] == chosen.micro_batch
    assert written["candidate"]["precision"] == "fp32"  # on a CPU


@pytest.mark.slow
def test_a_cpu_is_timed_and_claims_no_memory(
    tmp_path: Path, command: Command, alone_file: Path
) -> None:
    arguments = ("probe", "--vram", "6", "--recipe", str(alone_file), "--device", "cpu")
    result = command("bench", *arguments)
    assert result.returncode == 0, result.stderr
    text = next(tmp_path.glob("results/probe/*/trials.jsonl")).read_text()
    trials = [json.loads(line) for line in text.splitlines()]
    timed = [t for t in trials if t["conditions"]["card"] == "cpu" and t["outcome"] == "ok"]
    assert len(timed) == 3 * 2  # checkpointing × the two largest micro-batches
    assert all(t["reading"]["reserved_bytes"] is None for t in timed)
    assert all(len(t["reading"]["step_seconds"]) == 3 for t in timed)
    skipped = [t for t in trials if t["outcome"] == "skipped"]
    assert skipped and all(t["error"] for t in skipped)


@pytest.mark.parametrize("vram", ["0.9", "6", "16", "24", "48", "1024"])
def test_a_grid_without_a_card_is_for_one_of_that_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vram: str
) -> None:
    plans = []

    def stop_before_the_work(plan: ProbePlan, *_: object) -> None:
        plans.append(plan)
        sys.exit(0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.probe.probe.predict_grid", stop_before_the_work)
    whole = ["probe", "--vram", vram, "--recipe", "demo", "--device", "predict"]
    assert CliRunner().invoke(main, whole).exit_code == 0
    (plan,) = plans
    assert plan.budget.card_total_bytes <= plan.target.total_bytes <= float(vram) * 2**30
    assert plan.target.total_bytes <= plan.budget.card_total_bytes * 1.05


# -- wrong uses, each one sentence and nothing written


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["probe", "--vram", "0"], 2, "0 must be at least 0.1"),
        (["probe", "--vram", "abc"], 2, "'abc' is not a number"),
        (["probe", "--vram", "1e9"], 2, "1e9 must be at least 0.1 and at most 1024 GiB"),
        (["probe", "--vram", "nan"], 2, "nan is not a finite number"),
        (["probe", "--vram", "0.5"], 2, "--vram 0.5 leaves nothing to train in"),
        (["probe", "--vram", "6", "--recipe", "x"], 2, "Unknown recipe 'x'"),
        (["probe", "--vram", "6", "--target", "x"], 2, "Unknown target 'x'"),
        (["probe", "--vram", "24", "--target", "rtx4050"], 2, "--vram 24 is more than RTX 4050"),
        (["probe", "--vram", "6", "--device", "cuda"], 3, "No CUDA device here"),
        (["predict", "--stage", "teacher", "--batch-size", "0"], 2, "0 is not in the range"),
        (["predict", "--stage", "teacher", "--batch-size", "-1"], 2, "-1 is not in the range"),
        (["predict", "--stage", "tutor"], 2, "'tutor' is not one of"),
        (["predict", "--stage", "teacher", "--precision", "fp8"], 2, "'fp8' is not one of"),
        (
            ["predict", "--stage", "teacher", "--batch-size", "8", "--target", "x"],
            2,
            "Unknown target",
        ),
    ],
)
def test_a_wrong_use_is_one_sentence(tmp_path, monkeypatch, arguments, code, sentence) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert sentence in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_card_too_small_for_a_stage_keeps_the_trials_and_writes_no_profile(
    tmp_path: Path, command: Command, alone_file: Path
) -> None:
    result = command(
        "bench", "probe", "--vram", "0.82", "--recipe", str(alone_file), "--device", "predict"
    )
    assert result.returncode == 4, result.stderr
    assert "has no configuration within" in result.stderr
    assert not list(tmp_path.glob("profiles/*.json"))
    assert list(tmp_path.glob("results/probe/*/trials.jsonl"))


def families_in(journal: Path) -> int:
    """The families with a whole line in a journal that is being written."""
    lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
    made = [json.loads(line)["candidate"] for line in lines]
    return len({(one["stage"], one["precision"], one["checkpointing"]) for one in made})


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_predicted_and_the_next_probe_goes_on(
    tmp_path: Path, command: Command, alone_file: Path
) -> None:
    arguments = ("probe", "--vram", "6", "--recipe", str(alone_file), "--device", "predict")
    whole = len(families(load_recipe(str(alone_file)), target_named("rtx4050")))
    child = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = tmp_path / "results" / "probe" / "small-6gb" / "trials.jsonl"
    for _ in range(1200):
        if families_in(journal) > 1 or child.poll() is not None:  # the first is whole then
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=120)
    assert child.returncode == 130, stderr
    assert "Stopped by SIGINT" in stderr and "Traceback" not in stderr
    assert not list(tmp_path.glob("profiles/*.json"))
    kept = len(journal.read_text().splitlines())
    assert kept
    again = command("bench", *arguments)
    assert again.returncode == 0, again.stderr
    assert "predicting" in again.stderr and f"predicting: {whole} families" not in again.stderr
    assert len(journal.read_text().splitlines()) > kept
    assert list(tmp_path.glob("profiles/*.json"))


def devices_in_sight(job: object) -> list[str | None]:
    """What a worker that predicts is told of GPUs; `predict_families` calls it in a process."""
    return [os.environ.get("CUDA_VISIBLE_DEVICES")]


@pytest.mark.slow
def test_predicting_leaves_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's C++ would make a context for fake tensors; the driver is told of no device."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert list(predict_families([None], devices_in_sight)) == [[""]]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"  # the process that measures still sees it
    whole = ["predict", "--stage", "student", "--batch-size", "4", "--precision", "fp16"]
    assert CliRunner().invoke(main, whole).exit_code == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image-size", "8"], "can't be run on 8 px.*Choose another"),
        (["--model", "hiera_tiny_224"], "has attention over 5 dimensions, which the flash kernel"),
        (["--model", "beit_base_patch16_224"], "has attention with a mask, which the flash kernel"),
        (["--precision", "bf16", "--target", "rtx2060"], "no bf16.*--precision fp16"),
        (["--plot", "a.xyz"], "must end in .png"),
        (["--plot", "."], "it is a folder"),
        (["--plot", "n" * 300 + ".png"], "File name too long"),
        (["--batch-size", "100000000"], "not in the range"),
    ],
)
def test_what_cannot_be_predicted_is_one_sentence(arguments: list[str], words: str) -> None:
    whole = ["predict", "--stage", "teacher", "--batch-size", "4", *arguments]
    result = CliRunner().invoke(main, whole)
    assert result.exit_code == 2, result.output
    assert re.search(words, result.output)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_card_that_is_here_may_be_asked_for() -> None:
    result = CliRunner().invoke(
        main, ["predict", "--stage", "teacher", "--batch-size", "4", "--target", "auto"]
    )
    assert result.exit_code == 3 and "Name a card instead" in result.output
