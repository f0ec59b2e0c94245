"""The journal of trials: a file with a line for each, so that none is done twice.

Each line stands alone. Appends and reads; decides nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.trials.trial import Conditions, Trial
from distill.base.errors import UserError
from distill.base.files import append_line
from distill.base.reading import read_lines
from distill.spec.candidate import Candidate
from distill.spec.validated import document_as

SCHEMA = 1
MOVE_AWAY = "Move it away; they will be made again."


class Journal:
    """Trials on disk, a line each, appended and fsynced; those already there can be asked for.

    With `force` what is there is kept, but counts as not done.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path
        documents, self.torn = read_lines(path)
        self.trials = [trial_of(path, document) for document in documents]
        self._done: dict[tuple[Candidate, int, Conditions], Trial] = {}
        if not force:
            self._done = {_key(trial): trial for trial in self.trials}

    def done(self, candidate: Candidate, conditions: Conditions, turn: int = 0) -> Trial | None:
        """The last trial of that candidate that holds under those conditions, if there is one.

        Of that turn alone. A contaminated trial is none: it measured not the candidate alone.
        """
        trial, wanted = self._done.get((candidate, turn, conditions)), [candidate, turn]
        if trial is None:
            last = (one for (*made, _), one in reversed(self._done.items()) if made == wanted)
            trial = next((one for one in last if one.holds(conditions)), None)
        return None if trial is None or trial.outcome == "contaminated" else trial

    def under(self, conditions: Conditions) -> list[Trial]:
        """All trials under those very conditions."""
        return [trial for (*_, there), trial in self._done.items() if there == conditions]

    def elsewhere(self, conditions: Sequence[Conditions]) -> int:
        """Count the lines that were made under none of those conditions."""
        return sum(trial.conditions not in conditions for trial in self.trials)

    def add(self, trials: Iterable[Trial]) -> None:
        """Append trials, on the disk before this returns."""
        for trial in trials:
            document = {"schema": SCHEMA, **asdict(trial)}
            document["pins"] = trial.pins.model_dump(mode="json")
            append_line(self.path, document)
            self.trials.append(trial)
            self._done[_key(trial)] = trial


def _key(trial: Trial) -> tuple[Candidate, int, Conditions]:
    return trial.candidate, trial.turn, trial.conditions


def trial_of(path: Path, document: Any) -> Trial:
    """The trial in a line of a journal. Raises `UserError` for what is none."""
    if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
        raise UserError(f"{path} holds trials of another schema. {MOVE_AWAY}")
    subject = f"{path} holds a line that is no trial"
    trial = document_as(Trial, document, subject, MOVE_AWAY)
    if trial.outcome == "ok" and trial.reading is None:
        raise UserError(f"{subject}: it went through without a reading. {MOVE_AWAY}")
    return trial
