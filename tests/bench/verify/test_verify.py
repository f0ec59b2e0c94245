"""Verification: both directions must end as they should, and only then a profile is verified."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.card.targets import target_like
from bench.cli import main
from bench.measure.isolate import Ended, run_child, run_document, spawned
from bench.measure.jobs import job_document
from bench.probe.make_profile import Probed, make_profile, verified_profile
from bench.simulate.allocator.caching_allocator import OutOfMemory
from bench.simulate.predictor import Predictor
from bench.simulate.program.arrange import batches
from bench.trials.journal import Journal
from bench.verify.proof_child import last_update
from bench.verify.proofs import ProofJob, ProofResult, stage_line
from bench.verify.verify import (
    PROOF_CHILD,
    Effort,
    Peak,
    _result,
    predicted_peaks,
    verify,
    with_verification,
)
from distill.base.errors import NoSafeChoice, ProfileMismatch, RunFailed
from distill.cli.main import main as distill
from distill.spec.pins import pins_for
from distill.spec.profile import Profile, read_profile, write_profile
from tests.bench.conftest import forked_child
from tests.bench.probe import killed_probe
from tests.bench.probe.test_measure_grid import measured, probe_of
from tests.conftest import ROOT
from tests.forked import forked

CARD = killed_probe.CARD

pytestmark = pytest.mark.usefixtures("workers_are_forked")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return probe_of(tmp_path_factory.mktemp("probe") / "trials.jsonl")


@pytest.fixture(scope="module")
def probed(plan) -> Probed:
    found = measured(plan, Journal(plan.journal))
    return Probed(
        predicted=tuple(killed_probe.predicted()),
        measured=tuple(found),
    )


@pytest.fixture(scope="module")
def profile(plan, probed) -> Profile:
    return make_profile(plan, probed)


class Card:
    """Runs proofs at once: memory ends where `needs` of a candidate is more than the cap."""

    def __init__(self, bias_bytes: int = 0, **changes) -> None:
        self.bias_bytes, self.changes = bias_bytes, changes
        self.jobs: list[ProofJob] = []

    def __call__(self, job: ProofJob) -> ProofResult:
        self.jobs.append(job)
        needs = killed_probe.peak_and_rate(job.candidate)[0] + self.bias_bytes
        assert job.cap_bytes is not None
        if needs > job.cap_bytes:
            return ProofResult(outcome="oom", error="full")
        good = ProofResult(
            outcome="ok", updates=3, seconds=1.0, reserved_bytes=needs, alloc_retries=0
        )
        return replace(good, **self.changes)


def test_what_passes_under_its_cap_and_fails_below_is_verified(profile) -> None:
    card = Card()
    verification = verify(profile, CARD, card)
    after = with_verification(profile, verification, CARD)
    assert after.status == "verified" and verification.passed
    assert after.fingerprint.driver == "580.1" and after.fingerprint.step is not None
    assert len(card.jobs) == 9
    for trained, resumed, control in zip(*[iter(card.jobs)] * 3, strict=True):
        assert (trained.resume, resumed.resume, control.resume) == (False, True, False)
        assert trained.checkpoint == resumed.checkpoint and control.checkpoint is None
        assert trained.seconds >= 60 and trained.updates >= 200
        assert trained.cap_bytes == resumed.cap_bytes == profile.budget.limit_bytes
    peaks = predicted_peaks(profile, CARD)
    assert [job.cap_bytes for job in card.jobs[2::3]] == [
        peaks[choice.stage].control_cap_bytes for choice in profile.choices
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rtx4050", "demo-6gb"])
def test_on_a_card_that_does_as_predicted_the_committed_profiles_are_verified(name: str) -> None:
    """Each proof is a whole run through the model of the allocator, under the proof's cap."""
    profile = read_profile(ROOT / "profiles" / f"{name}.json")
    predictor = Predictor(profile.target, profile.allocator)

    def as_predicted(job: ProofJob) -> ProofResult:
        whole, _ = predictor.run(job.candidate)
        sizes = whole.sizes(batches(job.candidate), predictor._kernels(job.candidate).size)
        try:
            run = predictor._replay(whole, sizes, cap_bytes=job.cap_bytes)
        except OutOfMemory as error:
            return ProofResult(outcome="oom", error=str(error))
        return ProofResult(
            outcome="ok",
            updates=3,
            seconds=1.0,
            reserved_bytes=run.reserved,
            alloc_retries=run.retries,
        )

    target = profile.target
    card = replace(
        CARD,
        compute_capability=target.compute_capability,
        multiprocessors=target.multiprocessors,
        threads_per_multiprocessor=target.threads_per_multiprocessor,
    )
    verification = verify(profile, card, as_predicted)
    assert verification.passed, [stage_line(stage) for stage in verification.stages]


def test_a_verified_profile_holds_both_outcomes_and_reads_back(profile, tmp_path: Path) -> None:
    after = with_verification(profile, verify(profile, CARD, Card()), CARD)
    write_profile(tmp_path / "p.json", after)
    again = read_profile(tmp_path / "p.json")
    assert again == after and again.verification is not None
    first = again.verification.stages[0]
    assert (again.verification.card, again.verification.cap) == ("imaginary", "native")
    assert first.trained.reserved_bytes and first.trained.outcome == "ok"
    assert first.control is not None and first.control.outcome == "oom"


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (Card(10**12), "full"),
        (Card(alloc_retries=2), "the allocator retried 2 time(s)"),
        (Card(outcome="crash", error="ended by SIGSEGV"), "ended by SIGSEGV"),
        (Card(outcome="timeout", error="no result"), "no result"),
        (Card(reserved_bytes=None), "no peak was measured"),
        (Card(reserved_bytes=10**12), "it reserved more than the limit"),
    ],
)
def test_what_does_not_pass_is_not_verified_and_says_why(profile, card, words) -> None:
    verification = verify(profile, CARD, card)
    assert not verification.passed
    assert {stage.trained.words for stage in verification.stages} == {words}
    assert all(stage.resumed is None and stage.control is None for stage in verification.stages)
    after = with_verification(profile, verification, CARD)
    assert after.status == "predicted" and after.verification == verification


@pytest.mark.parametrize("outcome", ["ok", "crash", "timeout"])
def test_a_control_that_does_not_run_out_of_memory_proves_nothing(profile, outcome) -> None:
    class Lenient(Card):
        def __call__(self, job: ProofJob) -> ProofResult:
            if job.cap_bytes == profile.budget.limit_bytes:
                return super().__call__(job)
            return ProofResult(outcome=outcome, reserved_bytes=1, alloc_retries=0)

    verification = verify(profile, CARD, Lenient())
    assert not verification.passed
    for stage in verification.stages:
        assert stage.trained.passed and stage.control is not None and not stage.control.passed


def test_a_context_larger_than_the_limit_leaves_room_for_is_not_safe(
    profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the made-up card needs the same whatever its size
    monkeypatch.setattr("bench.verify.verify._decides", lambda target: None)
    room = CARD.total_bytes - profile.budget.limit_bytes

    class Crowded(Card):
        outside_bytes = room

        def __call__(self, job: ProofJob) -> ProofResult:
            return replace(super().__call__(job), outside_bytes=self.outside_bytes)

    assert verify(profile, CARD, Crowded()).passed
    Crowded.outside_bytes = room + (1 << 20)
    stage = verify(profile, CARD, Crowded()).stages[0]
    assert not stage.trained.passed and "in use beside it" in (stage.trained.words or "")
    large = replace(CARD, total_bytes=140 << 30, free_bytes=139 << 30)
    assert verify(profile, large, Crowded()).passed  # what a small card would hold is not known


def test_a_control_that_retries_is_as_it_should_be(profile) -> None:
    class Retrying(Card):
        def __call__(self, job: ProofJob) -> ProofResult:
            result = super().__call__(job)
            if result.outcome == "oom":
                return ProofResult(outcome="ok", reserved_bytes=1, alloc_retries=1)
            return result

    assert verify(profile, CARD, Retrying()).passed


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"total_bytes": 4 << 30}, ProfileMismatch, "Make one for this card"),
        ({"free_bytes": 1 << 30}, RunFailed, "free now"),
        ({"compute_capability": (7, 5)}, ProfileMismatch, "takes other kernels"),
    ],
)
def test_a_card_that_cannot_hold_the_profile_is_refused(profile, changes, error, words) -> None:
    with pytest.raises(error, match=words):
        verify(profile, replace(CARD, **changes), Card())


@pytest.mark.slow
def test_a_larger_card_says_that_it_imitates(profile) -> None:
    large = replace(CARD, name="H200", total_bytes=140 << 30, free_bytes=139 << 30)
    alone = profile.model_copy(update={"choices": profile.choices[-1:]})
    assert verify(alone, large, Card()).cap == "enforced on H200"


@pytest.mark.slow
def test_for_another_card_the_peaks_are_predicted_anew() -> None:
    profile = read_profile(ROOT / "profiles" / "demo-6gb.json")
    peaks = predicted_peaks(profile, CARD)
    for choice in profile.choices:
        assert peaks[choice.stage].reserved_bytes == sum(choice.breakdown.values())
    other = replace(CARD, multiprocessors=132, compute_capability=(9, 0))
    predictor = Predictor(target_like(other), profile.allocator)
    choice = profile.choices[-1]
    there = predicted_peaks(profile.model_copy(update={"choices": (choice,)}), other)
    predicted = predictor.predict(choice.candidate)
    assert there == {
        choice.stage: Peak(reserved_bytes=predicted.reserved, cap_needed_bytes=predicted.cap_needed)
    }


def test_a_probe_goes_to_the_next_best_where_the_best_does_not_hold(plan, probed) -> None:
    first = make_profile(plan, probed).choices[0].candidate

    class Failing(Card):
        def __call__(self, job: ProofJob) -> ProofResult:
            if job.candidate == first:
                return ProofResult(outcome="oom", error="full")
            return super().__call__(job)

    after, profile = verified_profile(plan, probed, CARD, lambda line: None, Failing())
    assert profile.status == "verified" and profile.choices[0].candidate != first
    out = next(t for t in after.measured if t.candidate == replace(first, evaluation_batch=None))
    assert out.outcome == "thrash"


def test_a_probe_in_which_nothing_holds_ends_predicted_or_without_a_choice(plan, probed) -> None:
    try:
        _, profile = verified_profile(plan, probed, CARD, lambda line: None, Card(10**12))
    except NoSafeChoice:
        return
    assert profile.status == "predicted" and profile.verification is not None


# -- the child, for real, on a CPU


@pytest.mark.slow
def test_the_child_trains_saves_and_another_goes_on(small_candidate, tmp_path: Path) -> None:
    candidate = replace(small_candidate, accumulation=2, images_per_epoch=19, evaluation_batch=6)
    job = ProofJob(
        candidate=candidate,
        pins=pins_for("fp32", (8, 9), deterministic=False, allocator="expandable"),
        device="cpu",
        cap_bytes=None,
        seconds=30,
        updates=2,
        checkpoint=str(tmp_path),
    )
    turns = ((job, spawned(PROOF_CHILD)), (replace(job, resume=True), forked_child(PROOF_CHILD)))
    for turn, runner in turns:
        ended, document = run_document(job_document(turn), runner, 120)
        result = _result(ended, document, 120)
        assert (result.outcome, result.updates) == ("ok", 4), ended.stderr
        assert result.reserved_bytes is None and result.alloc_retries is None
    assert (tmp_path / "checkpoints" / "latest.pth").exists()


@pytest.mark.parametrize(
    ("images", "sizes"), [(19, [3]), (23, [4, 3]), (16, [4]), (None, [1]), (20, [4])]
)
def test_an_epochs_last_update_is_as_large_as_it_will_be(small_candidate, images, sizes) -> None:
    candidate = replace(small_candidate, accumulation=2, images_per_epoch=images)
    assert [len(batch) for batch in last_update(candidate)] == sizes


def test_a_child_that_leaves_garbage_is_a_crash(tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'w').write('{\"outcome\": 3}')"

    def runner(job_path: Path, result_path: Path, limit: float) -> Ended:
        return run_child([sys.executable, "-c", code, str(result_path)], limit)

    ended, document = run_document({}, runner, 60)
    assert _result(ended, document, 60).outcome == "crash"


def test_effort_is_at_least_a_minute_or_200_updates() -> None:
    assert (Effort().seconds, Effort().updates) == (60.0, 200)


# -- the commands


def test_verify_without_a_gpu_is_one_sentence(profile, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    path = tmp_path / "p.json"
    write_profile(path, profile)
    before = path.read_bytes()
    result = CliRunner().invoke(main, ["verify", str(path)])
    assert result.exit_code == 3 and "No CUDA device here" in result.output
    assert path.read_bytes() == before


def test_verify_of_what_is_no_profile_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "none.json")])
    assert result.exit_code == 2 and "Cannot read profile" in result.output


@pytest.fixture
def verified_file(profile, tmp_path: Path) -> Path:
    """A profile verified on a card that is not here."""
    path = tmp_path / "verified.json"
    after = with_verification(profile, verify(profile, CARD, Card()), CARD)
    assert after.status == "verified"
    write_profile(path, after)
    return path


def test_a_run_refuses_a_profile_verified_elsewhere(verified_file, tmp_path: Path) -> None:
    out = tmp_path / "results"
    arguments = ["run", "--profile", str(verified_file), "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(distill, arguments)
    assert result.exit_code == 6, result.output
    assert "card imaginary there, none here" in " ".join(result.output.split())
    assert not list(out.rglob("*.*"))


def test_reverify_hands_on_what_verify_said(verified_file, tmp_path: Path) -> None:
    out = str(tmp_path / "results")
    arguments = ["run", "--reverify", "--profile", str(verified_file), "--out", out]
    done = forked("distill", *arguments, "--device", "cpu")
    assert done.returncode == 3, done.stderr
    assert "No CUDA device here" in done.stderr and "exit 3" in done.stderr


def test_reverify_without_a_profile_is_one_sentence(tmp_path: Path) -> None:
    arguments = ["run", "--recipe", "demo", "--reverify", "--out", str(tmp_path)]
    result = CliRunner().invoke(distill, arguments)
    assert result.exit_code == 2 and "--reverify needs the --profile" in result.output
