"""The parts of a report that a profile gives: what fits, whose the bytes are, the probed grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.card.budget import budget_line
from bench.probe.grid_pictures import draw_breakdown, draw_heatmap
from bench.probe.grid_tables import choice_line, stage_rows
from bench.probe.trial_pictures import agreement, draw_agreement, draw_speed
from bench.report.parts import ReportPart, ReportTable, VerdictAnswer, drawn
from bench.report.timeline_by_owner import owned_timeline
from bench.report.timeline_shapes import OwnedTimeline
from bench.simulate.predictor import Predictor
from bench.trials.journal import Journal
from bench.trials.trial import Trial, by_stage
from distill.base.units import mib, percent
from distill.report.found_run import FoundRun
from distill.report.tables import Row, breakdown_rows
from distill.spec.candidate import STAGES, ModelSpec, StageName
from distill.spec.profile import Choice, Profile
from distill.spec.proof_values import Proof, Verification

NO_PROFILE = (
    "No profile is in this report. bench probe makes one; --profile names it, and the run's "
    "folder alone tells of no card."
)


@dataclass(frozen=True, kw_only=True)
class GivenProfile:
    """A profile and the file that it was read from."""

    path: Path
    profile: Profile

    @property
    def source(self) -> str:
        """The file, and whether its numbers were measured."""
        measured = {choice.source for choice in self.profile.choices}
        return f"{self.path}; {' and '.join(sorted(measured))}, status {self.profile.status}"

    @property
    def title(self) -> str:
        """The recipe and the card."""
        return f"{self.profile.recipe.name} on {self.profile.target.title}"


def what_fits(given: GivenProfile | None) -> VerdictAnswer:
    """The largest peak against the limit, and each stage's."""
    question = "What fits?"
    if given is None:
        return VerdictAnswer(question=question, short="no profile", sentences=[NO_PROFILE])
    profile = given.profile
    limit, most = profile.budget.limit_bytes, profile.needed_bytes
    over = f"{mib(most - limit)} MiB too much"
    share = f"{mib(most)} of {mib(limit)} MiB ({percent(most, limit)})"
    fits = most <= limit
    proven = "verified on a card" if profile.status == "verified" else "predicted, not yet verified"
    return VerdictAnswer(
        question=question,
        short="every stage fits" if fits else over,
        sentences=[
            f"The largest peak is {share} of {profile.target.title}; {proven}.",
            budget_line(profile.budget),
        ],
    )


def what_was_chosen(given: GivenProfile | None, run: FoundRun | None) -> VerdictAnswer:
    """Each stage's configuration, and that a run was trained elsewhere where it was."""
    question = "What was chosen?"
    if given is None:
        return VerdictAnswer(question=question, short="nothing", sentences=[NO_PROFILE])
    budget, card = given.profile.budget, given.profile.target.title
    chosen = [
        f"{c.stage} {c.candidate.label}, {c.candidate.micro_batch} × {c.candidate.accumulation}"
        for c in given.profile.choices
    ]
    lines = [choice_line(c, budget).removeprefix("→ ") for c in given.profile.choices]
    devices = [] if run is None else sorted({result.device for result in run.results()})
    if devices == ["cpu"]:
        lines.append("The run itself was trained on a CPU.")
    return VerdictAnswer(
        question=question, short="; ".join(chosen), sentences=[f"For {card}:", *lines]
    )


def profile_parts(given: GivenProfile, *, quick: bool) -> list[ReportPart]:
    """Budget, timelines, the grid and its predictions against what was measured."""
    predicted, measured = _trials(given)
    return [
        _budget(given),
        _timelines(given, quick=quick),
        _grid(given, predicted, measured),
        _speed(given, predicted, measured),
        _measured(given, predicted, measured),
    ]


def _budget(given: GivenProfile) -> ReportPart:
    choices, budget = given.profile.choices, given.profile.budget
    source = f"{given.source}; the breakdown is predicted"
    return ReportPart(
        title="Memory budget",
        sentences=[budget_line(budget)],
        tables=[
            ReportTable(title="Who owns the peak", rows=breakdown_rows(choices), source=source)
        ],
        pictures=drawn(
            "The bytes at each stage's peak by owner, beside the limit",
            source,
            lambda path: draw_breakdown(path, choices, budget, f"{given.title}, predicted"),
        ),
    )


def _timelines(given: GivenProfile, *, quick: bool) -> ReportPart:
    title = "Timeline of a step"
    if quick:
        return ReportPart(title=title, missing="Left out by --quick.")
    predictor = Predictor(given.profile.target, given.profile.allocator)
    found, sentences = [], [
        "Requested bytes over one update, from its first allocation to its last, stacked by owner. "
        "Each block is drawn as long as it lives: point at one, and its op and module are named."
    ]  # fmt: skip
    for choice in given.profile.choices:
        timeline, reserved_bytes = _timeline(given, predictor, choice)
        found.append(timeline)
        recorded = sum(choice.breakdown.values())
        if reserved_bytes != recorded:
            sentences.append(
                f"Of the {choice.stage} this version predicts {mib(reserved_bytes)} MiB, the "
                f"profile holds {mib(recorded)}: it was made by another version."
            )
    return ReportPart(title=title, sentences=sentences, timelines=found)


def _timeline(
    given: GivenProfile, predictor: Predictor, choice: Choice
) -> tuple[OwnedTimeline, int]:
    program, run = predictor.run(choice.candidate, timeline=True)
    candidate = choice.candidate
    title = (
        f"{choice.stage}: {candidate.student.title}, {candidate.label}, "
        f"{candidate.micro_batch} images"
    )
    source = f"predicted by this version for {given.profile.target.title}; choice of {given.path}"
    limit = given.profile.budget.limit_bytes
    return owned_timeline(program, run, limit, title, source), run.reserved


def _grid(given: GivenProfile, predicted: Sequence[Trial], measured: Sequence[Trial]) -> ReportPart:
    title, budget = "The grid", given.profile.budget
    if not predicted:
        return ReportPart(title=title, missing=_no_journal(given))
    source = f"{_journal_path(given)}; predicted"
    chosen = {choice.stage: choice for choice in given.profile.choices}
    tables = [
        ReportTable(
            title=f"Every cell of the {stage}",
            rows=stage_rows(trials, budget, trials[0].candidate.effective_batch, chosen.get(stage)),
            source=str(_journal_path(given)),
            folded=True,
        )
        for stage, trials in by_stage([*predicted, *measured]).items()
    ]
    return ReportPart(
        title=title,
        sentences=["Peak reserved memory by configuration and micro-batch, against the limit."],
        pictures=drawn(
            "Every configuration and micro-batch as a share of the budget; the choice is ringed",
            source,
            lambda path: draw_heatmap(
                path, predicted, given.profile.choices, budget, f"{given.title}, predicted"
            ),
        ),
        tables=tables,
    )


def _speed(
    given: GivenProfile, predicted: Sequence[Trial], measured: Sequence[Trial]
) -> ReportPart:
    title, profile = "Memory against speed", given.profile
    if not predicted:
        return ReportPart(title=title, missing=_no_journal(given))
    on_card = [trial for trial in measured if trial.images_per_second is not None]
    shown, words = (on_card, "measured") if on_card else (predicted, "predicted")
    return ReportPart(
        title=title,
        pictures=drawn(
            "Images a second against peak memory, the front, and the choice",
            f"{_journal_path(given)}; {words}",
            lambda path: draw_speed(
                path, shown, profile.choices, profile.budget, f"{given.title}, {words}"
            ),
        ),
    )


def _measured(
    given: GivenProfile, predicted: Sequence[Trial], measured: Sequence[Trial]
) -> ReportPart:
    title = "Predicted against measured"
    pairs = agreement(predicted, measured)
    tables = []
    if given.profile.verification is not None:
        tables = [
            ReportTable(
                title="The profile proven on a card",
                rows=proof_rows(given.profile.verification),
                source=f"{given.path}; measured on {given.profile.verification.card}",
            )
        ]
    if not pairs:
        there = "No trial of this profile's probe was measured: bench probe does where a GPU is."
        return ReportPart(title=title, tables=tables, missing=there)
    return ReportPart(
        title=title,
        tables=tables,
        pictures=drawn(
            "Predicted and measured peaks of the same trials; on the line they are equal",
            f"{_journal_path(given)}; predicted and measured",
            lambda path: draw_agreement(path, predicted, measured, given.title),
        ),
    )


def proof_rows(verification: Verification) -> list[Row]:
    """One row a stage: the cap it went through under, the one it failed under."""
    return [
        {
            "stage": proof.stage,
            "predicted MiB": mib(proof.predicted_reserved_bytes),
            "reserved MiB": mib(proof.trained.reserved_bytes),
            "cap MiB": mib(proof.trained.cap_bytes),
            "trained": proof.trained.outcome,
            "resumed": _outcome(proof.resumed),
            "smaller cap MiB": mib(None if proof.control is None else proof.control.cap_bytes),
            "under it": _outcome(proof.control),
            "passed": "yes" if proof.passed else "no",
        }
        for proof in verification.stages
    ]


def _outcome(proof: Proof | None) -> str:
    return "–" if proof is None else proof.outcome


def _no_journal(given: GivenProfile) -> str:
    names = ", ".join(given.profile.evidence) or "a journal"
    return (
        f"The probe's journal ({names}) is not here, or holds nothing of this profile's card and "
        "limit: bench probe writes it again."
    )


def _journal_path(given: GivenProfile) -> Path | None:
    """The journal that the profile names, from here or from the folder above the profile's."""
    for name in given.profile.evidence:
        for path in (Path(name), given.path.absolute().parents[1] / name):
            if path.is_file():
                return path
    return None


def _trials(given: GivenProfile) -> tuple[list[Trial], list[Trial]]:
    """The journal's last predictions and measurements for the profile's card and limit."""
    profile, path = given.profile, _journal_path(given)
    if path is None:
        return [], []
    models = {(choice.stage, choice.candidate.student) for choice in profile.choices}
    journal = Journal(path)
    limit_bytes = profile.budget.limit_bytes
    predicted, measured = (
        sorted(
            (trial for trial in _last(journal, card, limit_bytes) if _of(trial) in models),
            key=lambda trial: STAGES.index(trial.candidate.stage),
        )
        for card in (profile.target.name, profile.fingerprint.card)
    )
    return predicted, measured


def _of(trial: Trial) -> tuple[StageName, ModelSpec]:
    return trial.candidate.stage, trial.candidate.student


def _last(journal: Journal, card: str | None, limit_bytes: int) -> list[Trial]:
    """All trials under the conditions of the last one for that card and limit."""
    for trial in reversed(journal.trials):
        there = trial.conditions
        if there.card == card and there.cap_bytes == limit_bytes:
            return journal.under(there)
    return []
