"""Golden traces: equal histories pass, any corrupted one is caught, and gaps are named."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.card.targets import target_named
from bench.evidence.allocator_check import check_allocator
from bench.evidence.imitation import imitate
from bench.evidence.recording import (
    ACTIONS,
    History,
    Recording,
    RecordingSet,
    read_recordings,
    stripped,
    write_recordings,
)
from bench.evidence.request_gaps import gap_rows, gaps
from bench.simulate.predictor import Predictor
from bench.simulate.program.program import Ints, Program
from distill.base.errors import UserError
from distill.spec.candidate import Allocator
from distill.spec.pins import pins_for
from distill.spec.recipe import load_recipe

TARGET = target_named("rtx4050")
ALLOCATORS: tuple[Allocator, ...] = ("expandable", "native")


@cache
def imitated(allocator: Allocator) -> tuple[Recording, Program, Ints]:
    """A student with its teacher, as the model says that a card would record it."""
    candidate = replace(
        load_recipe("demo").candidate("student", micro_batch=16),
        accumulation=2,
        precision="fp16",
        implementation="fused",
        images_per_epoch=None,
    )
    pins = pins_for("fp16", (8, 9), deterministic=False, allocator=allocator)
    program, run = Predictor(TARGET, allocator).run(candidate)
    return imitate(program, run.peak.sizes, candidate, pins), program, run.peak.sizes


def golden(*recordings: Recording) -> RecordingSet:
    return RecordingSet(
        command="bench evidence",
        target=TARGET,
        driver=None,
        torch="2",
        timm="1",
        cuda=None,
        cudnn=None,
        code="c",
        recordings=recordings,
    )


def with_history(recording: Recording, **columns: list[int]) -> Recording:
    """The recording with columns of its history exchanged."""
    assert recording.history is not None
    changed = {name: tuple(column) for name, column in columns.items()}
    return recording.model_copy(update={"history": recording.history.model_copy(update=changed)})


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_the_model_repeats_what_the_model_did(allocator: Allocator) -> None:
    recording, program, sizes = imitated(allocator)
    assert check_allocator(recording) == []
    assert gaps(recording, program, sizes) == []


@pytest.mark.slow
@pytest.mark.parametrize("allocator", ALLOCATORS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_wrong_size_anywhere_is_caught(allocator: Allocator, data: st.DataObject) -> None:
    recording, _, _ = imitated(allocator)
    assert recording.history is not None
    heard = [i for i, a in enumerate(recording.history.actions) if ACTIONS[a] != "free_requested"]
    at = data.draw(st.sampled_from(heard))
    sizes = list(recording.history.sizes)
    sizes[at] += data.draw(st.sampled_from([-512, -1, 1, 512, 2**21]))
    assert check_allocator(with_history(recording, sizes=sizes))


@pytest.mark.slow
@pytest.mark.parametrize("allocator", ALLOCATORS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_lost_event_anywhere_is_caught(allocator: Allocator, data: st.DataObject) -> None:
    recording, _, _ = imitated(allocator)
    assert recording.history is not None
    heard = [i for i, a in enumerate(recording.history.actions) if ACTIONS[a] != "free_requested"]
    at = data.draw(st.sampled_from(heard))
    columns = {name: list(column) for name, column in recording.history.model_dump().items()}
    for column in columns.values():
        del column[at]
    assert check_allocator(with_history(recording, **columns))


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_blocks_in_another_order_are_caught(allocator: Allocator) -> None:
    recording, _, _ = imitated(allocator)
    assert recording.history is not None
    addresses = recording.history.addresses
    low, high = sorted({addresses[i] for i in recording.history.of("alloc")})[-2:]
    swapped = [{low: high, high: low}.get(address, address) for address in addresses]
    assert check_allocator(with_history(recording, addresses=swapped))


@pytest.mark.parametrize("name", ["reserved_bytes.all.peak", "num_alloc_retries"])
def test_statistics_that_do_not_fit_the_history_are_caught(name: str) -> None:
    recording, _, _ = imitated("expandable")
    statistics = recording.statistics | {name: recording.statistics[name] + 1}
    found = check_allocator(recording.model_copy(update={"statistics": statistics}))
    assert [mismatch.what for mismatch in found] == [name]


def test_a_second_stream_is_refused_not_guessed_at() -> None:
    recording, _, _ = imitated("expandable")
    assert recording.history is not None
    streams = [0] * (len(recording.history) - 1) + [1]
    assert "streams" in str(check_allocator(with_history(recording, streams=streams))[0])


def test_a_missing_kernel_row_is_named() -> None:
    """A prediction that knows nothing of what one kernel allocates, held against one that does."""
    recording, program, sizes = imitated("expandable")
    hidden = [i for i, f in program.formulas.items() if "flash" in program.op[i] and sizes[i]]
    assert hidden
    without = np.array(sizes)
    without[hidden] = 0
    found = gaps(recording, program, without)
    assert len(found) == len(hidden) and {gap.side for gap in found} == {"not predicted"}
    assert {gap.size_bytes for gap in found} == {int(sizes[i]) for i in hidden}
    assert any("flash" in row["op"] and row["module"] for row in gap_rows(found))


def test_a_row_too_many_is_named_by_its_own_op() -> None:
    recording, program, sizes = imitated("expandable")
    more = np.array(sizes)
    birth = next(i for i in range(len(program)) if "layer_norm" in program.op[i] and sizes[i])
    more[birth] += 4096
    found = gaps(recording, program, more)
    assert {gap.side for gap in found} == {"not predicted", "not recorded"}
    assert any("layer_norm" in gap.op for gap in found if gap.side == "not recorded")


def test_another_step_than_the_predicted_one_is_said_to_be_so() -> None:
    recording, program, sizes = imitated("expandable")
    short = recording.model_copy(update={"marks": recording.marks[:-1]})
    with pytest.raises(ValueError, match="another step was recorded"):
        gaps(short, program, sizes)


def test_a_file_is_small_repeatable_and_read_back_equal(tmp_path: Path) -> None:
    there = golden(*(imitated(allocator)[0] for allocator in ALLOCATORS))
    one, other = tmp_path / "one.json.gz", tmp_path / "other.json.gz"
    write_recordings(one, there)
    write_recordings(other, there)
    assert one.read_bytes() == other.read_bytes()
    assert len(one.read_bytes()) < 100_000
    assert read_recordings(one) == there


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"no gzip", "Cannot read golden traces"),
        (gzip.compress(b"{"), "Cannot read golden traces"),
        (gzip.compress(json.dumps({"schema_version": 1}).encode()), "schema version 1"),
        (gzip.compress(json.dumps({"schema_version": 2}).encode()), "missing"),
        (gzip.compress(b"[" * 1000), "is nested more than 32 deep"),
        (gzip.compress(b"1" * 5000), "Exceeds the limit"),
        (gzip.compress(b"{}")[:-4], "Cannot read golden traces"),
        (gzip.compress(bytes(65 * 2**20)), "unpacked it is larger than 64.0 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip's header has the time
)
def test_what_is_no_golden_file_is_refused_in_one_sentence(
    tmp_path: Path, document: bytes, says: str
) -> None:
    path = tmp_path / "golden.json.gz"
    path.write_bytes(document)
    with pytest.raises(UserError, match=says):
        read_recordings(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one: one["history"]["sizes"].pop(), "its columns differ in length"),
        (lambda one: one["history"]["actions"].__setitem__(0, 99), "an action that is not known"),
        (lambda one: one["history"]["sizes"].__setitem__(0, -1), "sizes.0 = -1 is not possible"),
        (lambda one: one.update(statistics={}), "statistics lack requested_bytes.all.peak"),
        (lambda one: one["pins"].update(cublas_workspace_config=":4096"), "config = ':4096'"),
    ],
)
def test_a_recording_with_a_wrong_value_is_refused_in_one_sentence(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    document = golden(imitated("native")[0]).model_dump(mode="json")
    change(document["recordings"][0])
    (tmp_path / "golden.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(UserError, match=says):
        read_recordings(tmp_path / "golden.json.gz")


def test_a_snapshot_keeps_actions_order_sizes_and_streams_and_nothing_else() -> None:
    entry = {"stream": 140001, "frames": ["secret"], "time_us": 7}
    trace = [
        {"action": "segment_alloc", "addr": 0x7F00, "size": 2097152, **entry},
        {"action": "alloc", "addr": 0x7F00, "size": 512, **entry},
        {"action": "oom", "device_free": 1, "size": 9, **entry},
        {"action": "snapshot", "addr": 0, "size": 0, **entry},
        {"action": "alloc", "addr": 0x7E00, "size": 1024, **entry, "stream": 0},
    ]
    assert stripped(trace) == History(
        actions=(3, 0, 0), addresses=(1, 1, 0), sizes=(2097152, 512, 1024), streams=(0, 0, 1)
    )
