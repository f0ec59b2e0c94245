"""A predicted history as PyTorch's memory viewer reads it."""

import pickle
import pickletools
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from torch.cuda import _memory_viz

from bench.card.targets import target_named
from bench.cli import main
from bench.evidence.imitation import imitate
from bench.evidence.recording import stripped
from bench.predict.snapshot import NO_OWNER, predicted_snapshot, write_snapshot
from bench.simulate.predictor import Predictor
from bench.simulate.program.program import Program
from bench.simulate.replay import Replay
from distill.spec.candidate import Allocator, Candidate
from distill.spec.file_values import OWNERS
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe

TARGET = target_named("rtx4050")
ALLOCATORS: tuple[Allocator, ...] = ("expandable", "native")

THE_VIEWER_READS = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET"),
    *("LONG_BINGET", "EMPTY_DICT", "SETITEM", "SETITEMS", "DICT", "EMPTY_LIST", "APPEND"),
    *("APPENDS", "LIST", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "BININT"),
    *("BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE"),
    *("NEWTRUE", "NEWFALSE", "NONE"),
}
"""All that `unpickle` of PyTorch's MemoryViz.js knows of pickles."""


@cache
def predicted(allocator: Allocator) -> tuple[Candidate, Program, Replay, dict[str, Any]]:
    candidate = replace(load_recipe("demo").candidate("student", micro_batch=16), precision="fp16")
    program, run = Predictor(TARGET, allocator).run(candidate)
    snapshot = predicted_snapshot(
        program, run.peak.sizes, allocator, device_bytes=TARGET.total_bytes
    )
    return candidate, program, run, snapshot


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_its_events_rise_to_the_predicted_peaks(allocator: Allocator) -> None:
    _, _, run, snapshot = predicted(allocator)
    requested = reserved = highest_requested = highest_reserved = 0
    for event in snapshot["device_traces"][0]:
        if event["action"] == "alloc":
            requested += event["size"]
        elif event["action"] == "free_completed":
            requested -= event["size"]
        elif event["action"] in ("segment_alloc", "segment_map"):
            reserved += event["size"]
        highest_requested = max(highest_requested, requested)
        highest_reserved = max(highest_reserved, reserved)
    assert (highest_requested, highest_reserved) == (run.requested, run.reserved)
    assert sum(segment["total_size"] for segment in snapshot["segments"]) == run.reserved
    assert sum(segment["requested_size"] for segment in snapshot["segments"]) == requested


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_blocks_fill_their_segments_without_a_gap(allocator: Allocator) -> None:
    _, _, _, snapshot = predicted(allocator)
    end = 0
    for segment in snapshot["segments"]:
        assert segment["address"] > end  # segments that touch are taken for one
        end = segment["address"]
        for block in segment["blocks"]:
            assert block["address"] == end
            end += block["size"]
        assert end == segment["address"] + segment["total_size"]
    assert end < 2**53  # what JavaScript counts exactly


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_a_free_follows_its_allocation_and_what_is_left_is_in_the_segments(
    allocator: Allocator,
) -> None:
    _, _, _, snapshot = predicted(allocator)
    there: dict[int, tuple[int, list[Any]]] = {}
    events = iter(snapshot["device_traces"][0])
    for event in events:
        if event["action"] == "alloc":
            assert event["addr"] not in there
            there[event["addr"]] = event["size"], event["frames"]
        elif event["action"] == "free_requested":
            assert there.pop(event["addr"]) == (event["size"], event["frames"])
            assert next(events) == event | {"action": "free_completed"}
    blocks = [block for segment in snapshot["segments"] for block in segment["blocks"]]
    assert there == {
        block["address"]: (block["requested_size"], block["frames"])
        for block in blocks
        if block["state"] == "active_allocated"
    }


def test_every_event_names_op_module_phase_and_owner() -> None:
    _, _, _, snapshot = predicted("expandable")
    trace = snapshot["device_traces"][0]
    (event,) = [e for e in trace if e["action"] == "alloc" and e["category"] == "gradients"][:1]
    inner, outer = event["frames"]
    assert inner["name"].startswith("aten.") and inner["filename"].startswith("student.")
    assert outer["name"] == "gradients"
    assert outer["filename"] == "backward, the first micro-batch"
    assert {e["category"] for e in trace} == {*OWNERS, NO_OWNER}
    assert {e["user_metadata"] for e in trace} == {"predicted"}


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_pytorchs_own_tools_read_it(allocator: Allocator) -> None:
    _, _, run, snapshot = predicted(allocator)
    assert "Active Memory Timeline" in _memory_viz.trace_plot(snapshot)
    assert "Allocator State History" in _memory_viz.segment_plot(snapshot)
    words = f"total_reserved: {_memory_viz.Bytes(run.reserved)}"
    assert words in _memory_viz.segsum(snapshot)
    trace = _memory_viz.trace(snapshot)
    assert f"{len(snapshot['device_traces'][0])} entries" in trace
    folded = _memory_viz.memory(snapshot, format_flamegraph=str)
    assert "setup, building:0:weights" in folded


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_it_is_the_history_that_the_evidence_would_record(allocator: Allocator) -> None:
    candidate, program, run, snapshot = predicted(allocator)
    pins = pins_for("fp16", (8, 9), deterministic=False, allocator=allocator)
    imitation = imitate(program, run.peak.sizes, candidate, pins, device_bytes=TARGET.total_bytes)
    assert stripped(snapshot["device_traces"][0]) == imitation.history


def test_the_file_holds_plain_values_in_a_form_that_the_viewer_reads(tmp_path: Path) -> None:
    path = tmp_path / "predicted.pickle"
    write_snapshot(path, predicted("expandable")[-1])
    used = Counter(opcode.name for opcode, _, _ in pickletools.genops(path.read_bytes()))
    assert set(used) <= THE_VIEWER_READS
    assert pickle.loads(path.read_bytes()) == predicted("expandable")[-1]
    assert len(path.read_bytes()) < 200 * len(predicted("expandable")[-1]["device_traces"][0])


def test_the_command_writes_it_beside_an_answer_that_stays_one_document(tmp_path: Path) -> None:
    path = tmp_path / "new" / "predicted.pickle"
    words = ("predict", "--recipe", "demo", "--stage", "student", "--batch-size", "16", "--json")
    result = CliRunner().invoke(main, [*words, "--snapshot", str(path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("{") and result.stdout.rstrip().endswith("}")
    assert f"Wrote {path}: " in result.stderr and "pytorch.org/memory_viz" in result.stderr
    snapshot = pickle.loads(path.read_bytes())
    reserved = sum(segment["total_size"] for segment in snapshot["segments"])
    assert f'"peak_reserved_bytes": {reserved}' in result.stdout


def test_a_place_that_is_a_folder_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    words = ("predict", "--stage", "student", "--batch-size", "16", "--snapshot", str(tmp_path))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and f"Cannot write to {tmp_path}" in result.stderr
