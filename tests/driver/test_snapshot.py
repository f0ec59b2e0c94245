"""A predicted snapshot is what PyTorch's own code gives for the same requests, key by key."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from bench.predict.snapshot import predicted_snapshot
from bench.simulate.program.program import NEVER, Birth, Program, Span, make_program
from distill.spec.candidate import Allocator
from tests.driver.children import under_driver
from tests.driver.recordings import TARGET

pytestmark = pytest.mark.slow

ALLOCATORS: tuple[Allocator, ...] = ("expandable", "native")
REQUESTS = 600
ONLY_RECORDED = {"time_us"}
"""A prediction has no clock."""


def steps() -> list[int]:
    """Allocations of all sizes, each but the last followed by a few frees in the order of birth."""
    drawn, alive, found, born = random.Random(0), [0], [1024], 1
    while born < REQUESTS:
        found.append(drawn.randint(1, 10 ** drawn.randint(2, 8) // 3 + 1))
        alive.append(born)
        born += 1
        dead = sorted(drawn.sample(alive[1:], drawn.randint(0, min(2, len(alive) - 1))))
        found += [-birth for birth in dead]
        alive = [birth for birth in alive if birth not in dead]
    last = max(index for index, step in enumerate(found) if step > 0)
    return found[: last + 1]


def program_of(found: list[int]) -> Program:
    births = [Birth(size, "aten.empty", "", 0, None) for size in found if size > 0]
    deaths, born = [NEVER] * len(births), 0
    for step in found:
        if step > 0:
            born += 1
        else:
            deaths[-step] = born
    return make_program([Span("setup", "setup")], births, deaths, [])


@pytest.fixture(scope="module")
def recorded(library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("snapshots")
    outs = {allocator: folder / f"{allocator}.pickle" for allocator in ALLOCATORS}
    script = folder / "script.json"
    names = {allocator: str(out) for allocator, out in outs.items()}
    script.write_text(json.dumps({"steps": steps(), "outs": names}))
    child = ["-m", "tests.driver.snapshot_child", str(script)]
    under_driver(library, *child, device_bytes=TARGET.total_bytes)
    return {allocator: pickle.loads(out.read_bytes()) for allocator, out in outs.items()}


def modelled(allocator: Allocator, real: dict[str, Any]) -> dict[str, Any]:
    """The prediction, its segments where the driver put those that were recorded."""
    program = program_of(steps())
    segments = {segment["address"] for segment in real["segments"]}
    grown = [e["addr"] for e in real["device_traces"][0] if e["action"].startswith("segment")]
    starts = [address for address in grown if address in segments]
    return predicted_snapshot(
        program,
        program.base,
        allocator,
        device_bytes=TARGET.total_bytes,
        address_of=lambda number: starts[number - 1],
    )


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_events_are_the_same_in_the_same_order_at_the_same_places(
    recorded: dict[str, Any], allocator: Allocator
) -> None:
    real = recorded[allocator]
    mine = modelled(allocator, real)
    one, other = (_events(snapshot) for snapshot in (real, mine))
    assert len(other) > 2 * REQUESTS
    assert one == other


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_keys_are_the_same_at_every_level(recorded: dict[str, Any], allocator: Allocator) -> None:
    real = recorded[allocator]
    mine = modelled(allocator, real)
    assert list(mine) == list(real)
    assert set(mine["allocator_settings"]) <= set(real["allocator_settings"])
    for key, value in mine["allocator_settings"].items():
        assert real["allocator_settings"][key] == value
    event, own = real["device_traces"][0][0], mine["device_traces"][0][0]
    assert set(event) - ONLY_RECORDED == set(own) - {"category"}
    assert set(event["frames"][0]) == set(own["frames"][0])
    assert set(real["segments"][0]) == set(mine["segments"][0])
    assert set(real["segments"][0]["blocks"][0]) == set(mine["segments"][0]["blocks"][0])


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_segments_and_blocks_end_as_they_do_in_pytorch(
    recorded: dict[str, Any], allocator: Allocator
) -> None:
    real = recorded[allocator]
    assert _state(real) == _state(modelled(allocator, real))


def _starts(snapshot: dict[str, Any]) -> list[int]:
    return sorted(segment["address"] for segment in snapshot["segments"])


def _place(starts: list[int], address: int) -> tuple[int, int]:
    """The segment that an address lies in, by its size and number, and how far from its start."""
    number = max(index for index, start in enumerate(starts) if start <= address)
    return number, address - starts[number]


def _events(snapshot: dict[str, Any]) -> list[tuple[Any, ...]]:
    starts, trace = _starts(snapshot), snapshot["device_traces"][0]
    return [
        (event["action"], event["size"], event["stream"], *_place(starts, event["addr"]))
        for event in trace
        if event["action"] != "snapshot"
    ]


def _state(snapshot: dict[str, Any]) -> list[tuple[Any, ...]]:
    keys = ("device", "stream", "total_size", "allocated_size", "active_size", "requested_size")
    more = ("segment_type", "segment_pool_id", "is_expandable")
    return [
        (
            *(segment[key] for key in (*keys, *more)),
            [
                (
                    block["address"] - segment["address"],
                    block["size"],
                    block["state"],
                    # of a free block PyTorch keeps what was last asked of a part of it
                    block["requested_size"] if block["state"] != "inactive" else 0,
                )
                for block in segment["blocks"]
            ],
        )
        for segment in snapshot["segments"]
    ]
