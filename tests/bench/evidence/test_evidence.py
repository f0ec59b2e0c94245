"""`bench evidence`: the plan, the whole way on a CPU, the clock, and the tables it leaves."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.card.budget import assumed_budget
from bench.card.detect import CardFacts
from bench.card.targets import target_named
from bench.cli import main
from bench.evidence import evidence, record
from bench.evidence.command import EvidenceOptions
from bench.evidence.comparison import NONE_YET, compare_all, error_table, recordings_in
from bench.evidence.plan import CONVOLUTIONAL, SMALL, WRITE_UP_BATCHES, Plan, plan, small_plan
from bench.evidence.recording import (
    History,
    Recording,
    RecordingSet,
    read_recordings,
    write_recordings,
)
from bench.evidence.rehearsal import rehearse
from bench.evidence.session import EvidenceRequest, Session
from bench.evidence.summary import context_table, throughput_table, time_table
from bench.evidence.time_plan import PARTS
from bench.evidence.verification import verify_profile
from distill.base.errors import RunFailed, UserError
from distill.base.signals import StopRequest
from distill.spec.file_values import BREAKDOWN
from distill.spec.pins import pins_for
from distill.spec.profile import Choice, Fingerprint, Profile, RecipeMark, write_profile
from distill.spec.recipe import load_recipe
from tests.bench.evidence.test_recording import golden, imitated
from tests.bench.probe.killed_probe import CARD
from tests.conftest import ROOT, Command

EVIDENCE = ROOT / "results" / "evidence"


@pytest.fixture
def whole_plan() -> Plan:
    """The plan for a profile that chose fp16 in four micro-batches for each stage."""
    recipe = load_recipe("cifar10")
    choices = [
        Choice(
            stage=stage.name,
            student="vit",
            teacher=None,
            candidate=replace(
                recipe.candidate(stage.name, micro_batch=32),
                precision="fp16",
                implementation="fused",
            ),
            peak_reserved_bytes=1,
            breakdown=dict.fromkeys(BREAKDOWN, 0) | {"weights": 1},
            images_per_second=None,
            source="predicted",
        )
        for stage in recipe.stage
    ]
    return plan(recipe, choices)


def test_about_thirty_are_recorded_whole_and_as_many_for_their_peaks(whole_plan: Plan) -> None:
    """What an H100 recorded in 49 and in 45 s (`results/evidence/h100/index.json`)."""
    assert 25 <= len(whole_plan.golden) <= 30
    assert 50 <= len(whole_plan.golden) + len(whole_plan.cells) <= 60
    assert not set(whole_plan.golden) & set(whole_plan.cells)
    every = [cell.candidate for cell in (*whole_plan.golden, *whole_plan.cells)]
    assert {c.precision for c in every} == {"fp32", "fp16", "bf16"}
    assert {c.stage for c in every} == {"teacher", "assistant", "student"}
    assert set(CONVOLUTIONAL) <= {c.student.name for c in every}
    assert all(c.images_per_epoch is None and c.accumulation <= 2 for c in every)


def test_the_profile_is_timed_against_both_rivals_before_all_else(whole_plan: Plan) -> None:
    names = [contestant.name for contestant in whole_plan.contestants]
    assert names[:9] == ["the profile's", "the write-up's", "the plainest loop"] * 3
    assert names[9] == SMALL and {"without AMP", "with checkpointing"} <= set(names[10:])
    for rival in whole_plan.contestants[1:9:3]:
        candidate = rival.candidate
        assert candidate.micro_batch == WRITE_UP_BATCHES[candidate.stage]
        assert (candidate.checkpointing, candidate.implementation) == (1, "foreach")
    own, plain = whole_plan.contestants[0:9:3], whole_plan.contestants[2:9:3]
    assert [c.candidate for c in own] == [c.candidate for c in plain]


@pytest.mark.slow
def test_a_dry_run_walks_the_whole_way(command: Command, tmp_path: Path) -> None:
    done = command("bench", "evidence", "--dry-run", "--minutes", "5", "--out", "found")
    assert done.returncode == 0, done.stderr
    found = tmp_path / "found"
    files = sorted(path.name for path in found.iterdir())
    assert files == [
        "cells.json.gz",
        "golden.json.gz",
        "host.json",
        "index.json",
        "throughput.json",
        "verification.json",
    ]
    index = json.loads((found / "index.json").read_text())
    assert index["dry_run"] and all(part["done"] for part in index["parts"])
    counted = {part["part"]: (part["count"], part["of"]) for part in index["parts"]}
    assert counted == dict.fromkeys(PARTS, (1, 1)) | {"throughput": (2, 2)}
    assert all(part["seconds"] < part["may_take_seconds"] for part in index["parts"])
    assert "golden: 1, up to" in done.stderr
    assert {r.source for r in read_recordings(found / "golden.json.gz").recordings} == {"imitated"}
    assert read_recordings(found / "cells.json.gz").recordings[0].history is None
    (rehearsed,) = json.loads((found / "verification.json").read_text())["verifications"]
    (stage,) = rehearsed["stages"]
    assert rehearsed["card"] == "an imagined card (dry run)" and rehearsed["driver"] is None
    assert all(stage[proof]["passed"] for proof in ("trained", "resumed", "control"))
    assert stage["trained"]["updates"] > stage["resumed"]["updates"] > 0
    told = command("bench", "evidence", "--tables", "--out", "found")
    assert told.returncode == 0, told.stderr
    text = (found / "tables.md").read_text()
    assert told.stdout == text
    assert "| golden" in text and "1 of 1" in text
    assert "dry run" in text and "the plainest loop" in text and "equal" in text


@pytest.mark.slow
def test_when_time_is_up_it_ends_and_says_what_was_not_done(tmp_path: Path) -> None:
    arguments = ["evidence", "--dry-run", "--minutes", "0.02", "--out", str(tmp_path / "found")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1, done.output
    parts = json.loads((tmp_path / "found" / "index.json").read_text())["parts"]
    assert {part["part"]: part["done"] for part in parts}["golden"] is False
    assert "no time left" in parts[1]["words"] and parts[0]["done"]
    assert "no time to rehearse" in parts[2]["words"] and parts[2]["count"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("proofs_are_forked")
def test_a_part_that_meets_a_defect_ends_neither_the_others_nor_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise ValueError("a defect")

    monkeypatch.setattr(evidence, "record_all", broken)
    monkeypatch.setattr(evidence, "time_contestants", lambda session: "all timed")
    request = EvidenceRequest(
        out=tmp_path,
        minutes=2,
        plan=small_plan(load_recipe("demo")),
        card=None,
        profile=tmp_path / "none.json",
        command="bench evidence",
    )
    with pytest.raises(ExceptionGroup) as raised:
        evidence.run_evidence(request, StopRequest())
    assert [str(error) for error in raised.value.exceptions] == ["a defect"] * 2
    parts = json.loads((tmp_path / "index.json").read_text())["parts"]
    assert {part["part"]: part["done"] for part in parts} == {
        "host": True,
        "golden": False,
        "cells": False,
        "verification": True,
        "throughput": True,
    }


def test_a_dry_run_says_what_the_whole_plan_takes_on_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "run_evidence", lambda request, stop: [])
    options = EvidenceOptions(
        minutes=9.0,
        out=tmp_path / "found",
        profile_path=ROOT / "profiles" / "rtx4050.json",
        recipe_name=None,
        dry_run=True,
        tables=False,
    )
    assert evidence.gather(options, 0.0)
    told = capsys.readouterr().err
    assert "27 × golden 49 s" in told and "3 × verification 148 s" in told and "of 540 s" in told


def test_a_profile_of_a_recipe_file_needs_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "run_evidence", lambda request, stop: [])
    document = json.loads((ROOT / "profiles" / "demo-6gb.json").read_text())
    document["recipe"]["name"] = "mine"
    profile, file = tmp_path / "mine.json", tmp_path / "mine.toml"
    profile.write_text(json.dumps(document))
    file.write_text((ROOT / "distill/spec/recipes/demo.toml").read_text())

    def asked(recipe: str | Path | None) -> EvidenceOptions:
        return EvidenceOptions(
            minutes=9.0,
            out=tmp_path / "found",
            profile_path=profile,
            recipe_name=None if recipe is None else str(recipe),
            dry_run=True,
            tables=False,
        )

    with pytest.raises(UserError, match="recipe mine, which is a file of yours"):
        evidence.gather(asked(None), 0.0)
    with pytest.raises(UserError, match="is for another student"):
        evidence.gather(asked("cifar10"), 0.0)
    assert evidence.gather(asked(file), 0.0)


@pytest.mark.slow
def test_a_proof_of_the_rehearsal_ends_when_its_time_is_over() -> None:
    candidate = small_plan(load_recipe("demo")).contestants[0].candidate
    rehearsed = rehearse(candidate, "expandable", lambda line: None, lambda: 1.0)
    (stage,) = rehearsed.stages
    assert stage.trained.outcome == "timeout" and stage.resumed is None and not rehearsed.passed


def test_the_index_tells_of_a_part_that_was_begun_and_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> str:
        raise Killed

    monkeypatch.setattr(evidence, "record_all", killed)
    request = EvidenceRequest(
        out=tmp_path,
        minutes=2,
        plan=small_plan(load_recipe("demo")),
        card=None,
        profile=tmp_path / "none.json",
        command="bench evidence",
    )
    with pytest.raises(Killed):
        evidence.run_evidence(request, StopRequest())
    host, golden = json.loads((tmp_path / "index.json").read_text())["parts"]
    assert host["done"] and golden["words"] == "begun, and not ended"
    assert (golden["count"], golden["of"]) == (None, 1) and not golden["done"]
    assert "– of 1" in time_table(tmp_path)


def test_what_parts_took_is_told_of_old_files_too() -> None:
    lines = time_table(EVIDENCE / "h100").splitlines()
    (line,) = [line for line in lines if "verification" in line]
    assert "148.3" in line and "– of –" in line


def test_a_file_stays_small_enough_to_be_taken_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is no room for is left out of the newest recording, and told."""
    recording, _, _ = imitated("expandable")
    write_recordings(tmp_path / "one", golden(recording))
    room = (tmp_path / "one").stat().st_size * 3 // 2
    other = recording.model_copy(update={"history": different(recording.history)})
    monkeypatch.setattr(record, "MAX_FILE_BYTES", room)
    monkeypatch.setattr(record, "_recordings", lambda *_: iter([(1, recording), (0, other)]))
    request = EvidenceRequest(
        out=tmp_path,
        minutes=2,
        plan=small_plan(load_recipe("demo")),
        card=None,
        profile=tmp_path / "none.json",
        command="bench evidence",
    )
    cells = [*request.plan.golden, *request.plan.golden]
    with pytest.raises(RunFailed, match=r"2 of 2 recorded; .*its history would make the file"):
        record.record_all(Session(request, StopRequest()), cells, "golden.json.gz", history=True)
    written = read_recordings(tmp_path / "golden.json.gz").recordings
    assert [one.history is None for one in written] == [True, False]  # in the plan's order
    assert (tmp_path / "golden.json.gz").stat().st_size <= room


def different(history: History | None) -> History:
    """As many events of other sizes, which no compression can take for the same."""
    assert history is not None
    sizes = random.Random(0).choices(range(1, 2**40), k=len(history))
    return history.model_copy(update={"sizes": tuple(sizes)})


def test_children_on_a_small_card_are_kept_from_its_last_memory(tmp_path: Path) -> None:
    card = replace(CARD, total_bytes=6 << 30, free_bytes=5 << 30)
    request = EvidenceRequest(
        out=tmp_path,
        minutes=2,
        plan=small_plan(load_recipe("demo")),
        card=card,
        profile=tmp_path / "none.json",
        command="bench evidence",
    )
    small = Session(request, StopRequest())
    assert small.cap_bytes == (5 << 30) - (256 << 20) and not small.is_large
    large = replace(request, card=replace(card, total_bytes=140 << 30))
    assert Session(large, StopRequest()).cap_bytes is None


def test_without_a_gpu_and_a_dry_run_it_is_refused(command: Command, tmp_path: Path) -> None:
    done = command("bench", "evidence", "--out", "found")
    assert done.returncode == 3 and "No CUDA device" in done.stderr
    assert not (tmp_path / "found").exists()


def test_tables_of_nothing_say_that_nothing_was_recorded(command: Command) -> None:
    done = command("bench", "evidence", "--tables", "--out", "nowhere")
    assert done.returncode == 0 and NONE_YET in done.stdout


def test_an_error_is_shown_with_its_sign_and_what_is_missing_by_name() -> None:
    """A card that reserved 2 MiB more, and asked once more for 512 bytes, than is predicted."""
    recording, _, _ = imitated("expandable")
    statistics = dict(recording.statistics)
    statistics["reserved_bytes.all.peak"] += 2 * 2**20
    there = golden(with_one_more_request(recording).model_copy(update={"statistics": statistics}))
    text = error_table([there], compare_all([there]))
    assert "-2,097,152 B" in text and "1 of 1 above the maximum: student" in text
    assert "The allocator's model departs" in text and "not predicted" in text


def with_one_more_request(recording: Recording) -> Recording:
    history = recording.history
    assert history is not None
    columns = {name: list(column) for name, column in history.model_dump().items()}
    last = history.of("alloc")[-1]
    for name, column in columns.items():
        column.insert(last + 1, 512 if name == "sizes" else column[last])
    columns["addresses"][last + 1] = max(columns["addresses"]) + 1
    changed = history.model_copy(update={name: tuple(c) for name, c in columns.items()})
    return recording.model_copy(update={"history": changed})


def test_throughput_is_told_against_the_profiles_own() -> None:
    def reading(seconds: float) -> dict:
        return {"reserved_bytes": 2**20, "step_seconds": [seconds], "card_seconds": seconds / 2}

    def timed(name: str, speed: float | None) -> dict:
        candidate = {"stage": "student", "precision": "fp16", "checkpointing": 0}
        candidate |= {"micro_batch": 8, "accumulation": 1}
        return {
            "name": name,
            "by": "step",
            "candidate": candidate,
            "images_per_second": speed,
            "reading": None if speed is None else reading(8 / speed),
            "outcome": "oom" if speed is None else "ok",
        }

    trials = [
        timed("the profile's", 100.0),
        timed("the profile's", 300.0),
        timed("the write-up's", 50.0),
        timed("with AMP", 120.0),
        timed("without AMP", None),
    ]
    lines = throughput_table(trials).splitlines()
    # the median of the seconds of both rounds, and their quartiles
    assert "150" in lines[2] and "120–200" in lines[2] and "1.00" in lines[2]
    assert "host" in lines[2] and "within the spread" not in lines[2]
    assert "0.33" in lines[3] and "within the spread" not in lines[3]
    assert "0.80, within the spread" in lines[4]
    assert "oom" in lines[5] and "–" in lines[5]


def test_the_context_is_told_without_what_others_had() -> None:
    reading = {
        "context_bytes": 400 * 2**20,
        "device_used_after_bytes": 1000 * 2**20,
        "rounds": [{"outside_bytes": 1000 * 2**20}, {"outside_bytes": 1150 * 2**20}],
    }
    trial = {"name": "n", "candidate": {"stage": "s", "precision": "fp16"}, "reading": reading}
    assert context_table([trial]).splitlines()[2].split()[-4::2] == ["400", "550"]
    unknown = trial | {"reading": reading | {"context_bytes": None}}
    assert "could be measured yet" in context_table([unknown])


def test_a_stage_that_cannot_be_verified_is_told_with_the_commands_own_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real `bench verify`, to which no GPU is visible."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    recipe, target = load_recipe("demo"), target_named("rtx4050")
    candidate = recipe.candidate("student")
    choice = Choice(
        stage="student",
        student="vit",
        teacher=None,
        candidate=candidate,
        peak_reserved_bytes=1,
        breakdown=dict.fromkeys(BREAKDOWN, 0) | {"weights": 1},
        images_per_second=None,
        source="predicted",
    )
    profile = Profile(
        name="small",
        status="predicted",
        recipe=RecipeMark(name="demo", digest=recipe.digest()),
        target=target,
        budget=assumed_budget(6),
        choices=(choice,),
        pins={"student": pins_for("fp32", (8, 9), deterministic=False, allocator="native")},
        fingerprint=Fingerprint(torch="2", timm="1"),
        evidence=(),
    )
    write_profile(tmp_path / "small.json", profile)
    card = CardFacts(
        name="A card",
        compute_capability=(8, 9),
        multiprocessors=20,
        threads_per_multiprocessor=1536,
        total_bytes=2**33,
        free_bytes=2**33,
        context_bytes=2**28,
        driver="580",
    )
    request = EvidenceRequest(
        out=tmp_path / "found",
        minutes=2,
        plan=small_plan(recipe),
        card=card,
        profile=tmp_path / "small.json",
        command="bench evidence",
    )
    with pytest.raises(RunFailed, match="Stage student could not be verified: .*No CUDA device"):
        verify_profile(Session(request, StopRequest()))
    assert not (tmp_path / "found").exists()


def test_the_small_plan_needs_no_card() -> None:
    small = small_plan(load_recipe("demo"))
    cells = [*small.golden, *small.cells, *small.contestants]
    assert {cell.candidate.precision for cell in cells} == {"fp32"}


def recorded_files() -> list[RecordingSet]:
    return recordings_in(EVIDENCE)


@pytest.mark.slow
@pytest.mark.skipif(not recorded_files(), reason="no golden trace is in results/evidence yet")
def test_every_recorded_trace_is_repeated_by_the_allocators_model() -> None:
    """Each segment, each address in its order, each total: equal, on any machine."""
    from bench.evidence.allocator_check import check_allocator

    for file in recorded_files():
        device_bytes = file.target.total_bytes
        for recording in file.recordings:
            assert recording.source == "recorded"
            if recording.history is not None:
                assert check_allocator(recording, device_bytes) == [], recording.candidate
