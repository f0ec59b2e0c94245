"""Breaks one thing at a time in a copy and shows that a proof notices.

Each copy shares the engine and its layers with the real build, so a break costs seconds.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import image
from image import Trial
from shell import Failed, require


@dataclass(frozen=True, kw_only=True)
class Break:
    """An edit of one file, the proof that must fail, and a word that its failure must hold.

    `old` is a regular expression, `new` a template for what it matched.
    """

    file: str
    old: str
    new: str
    proof: Callable[[Trial], str]
    symptom: str
    rebuilt: bool = False

    def __call__(self, trial: Trial) -> str:
        """Break a copy; `Failed` when nobody noticed."""
        copy = replace(trial, tree=trial.root / "broken")
        shutil.copytree(trial.tree, copy.tree, ignore=shutil.ignore_patterns("probe"))
        try:
            edit(copy.tree / self.file, self.old, self.new)
            copy.give_to_caller()
            return _noticed(self, copy)
        finally:
            shutil.rmtree(copy.tree)


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old`; it has to be there, or the break would break nothing."""
    text = path.read_text()
    broken, found = re.subn(old, lambda match: match.expand(new), text, count=1, flags=re.MULTILINE)
    require(found == 1, f"{path.name} no longer holds {old!r}")
    path.write_text(broken)


def _noticed(broken: Break, copy: Trial) -> str:
    try:
        if broken.rebuilt and broken.proof is not image.build:
            image.build(copy)
        broken.proof(copy)
    except Failed as failure:
        require(broken.symptom in str(failure), f"failed for another reason: {failure}")
        return f"noticed: {broken.symptom}"
    raise Failed(f"nobody noticed that {broken.old!r} in {broken.file} was broken")


BREAKS: dict[str, Break] = {
    "broken user": Break(
        file="compose.yaml",
        old=r'user: "\$\{HOST_UID:-1000\}:\$\{HOST_GID:-1000\}"',
        new='user: "0:0"',
        proof=image.ownership,
        symptom="Permission denied",
    ),
    "broken mount": Break(
        file="compose.yaml",
        old="- ./profiles:/work/profiles",
        new="- cache:/work/profiles",
        proof=image.ownership,
        symptom="is not on the host's side",
    ),
    "broken reservation": Break(
        file="compose.yaml",
        old=r"deploy: \*gpu",
        new="labels: {}",
        proof=image.reservation_arrives,
        symptom="the engine said",
    ),
    "broken lock": Break(
        file="requirements.lock",
        old=r"^(click==[^ ]+).*\n(?: +--hash=.*\n)+",
        new=r"\1 --hash=sha256:" + "0" * 64 + r"\n",
        proof=image.build,
        symptom="mismatch",
        rebuilt=True,
    ),
    "broken entry point": Break(
        file="docker/entrypoint",
        old=r'exec "\$@"',
        new="exit 0",
        proof=image.first_help,
        symptom="--help says",
        rebuilt=True,
    ),
}
