"""The baseline: predicted cells in one committed file, and what they were predicted for.

Reads, checks and writes the file; compares nothing.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from distill.base.errors import UserError
from distill.base.files import write_json
from distill.base.reading import read_json
from distill.spec.candidate import Candidate
from distill.spec.file_values import Bytes
from distill.spec.validated import document_as

SCHEMA = 1
MOST_NAME = 80
"""Characters of a cell's name that are shown."""

MAKE_AGAIN = "Make it again: delete it, then bench compare --update."


@dataclass(frozen=True, kw_only=True)
class BaselineCell:
    """One predicted configuration by name, with its peaks and who owns the reserved one.

    `ops` are bytes by owner and op when most is requested; files of before have none.
    """

    name: str
    requested_bytes: Bytes
    allocated_bytes: Bytes
    reserved_bytes: Bytes
    breakdown: dict[str, Bytes]
    ops: dict[str, dict[str, Bytes]] | None = None


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Cells and what they were predicted for."""

    schema: int
    torch: str
    timm: str
    target: str
    recipe: str
    allocator: str
    cells: tuple[BaselineCell, ...]


def cell_name(candidate: Candidate) -> str:
    """A name that stays the same as long as the configuration does."""
    images = f"{candidate.micro_batch}x{candidate.accumulation}"
    return f"{candidate.stage}/{candidate.label}/{images}"


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises `UserError` for what is none, or one of other versions."""
    document = read_json(
        path,
        "baseline",
        unreadable_cure=f"Make one: bench compare {path} --update.",
        damaged_cure=MAKE_AGAIN,
    )
    if not isinstance(document, dict) or "schema" not in document:
        raise UserError(
            f"{path} is no baseline: it has no schema. Name one, or make one in another place: "
            "bench compare FILE --update."
        )
    baseline = document_as(Baseline, document, f"Baseline {path}", MAKE_AGAIN)
    if baseline.schema != SCHEMA:
        raise UserError(f"Baseline {path} has schema {baseline.schema}, not {SCHEMA}. {MAKE_AGAIN}")
    twice = [name for name, n in Counter(cell.name for cell in baseline.cells).items() if n > 1]
    if twice:
        raise UserError(f"Baseline {path} has cell {twice[0]!r} more than once. {MAKE_AGAIN}")
    return baseline


def check_question(baseline: Baseline, path: Path, *, target: str, recipe: str) -> None:
    """Bytes of another card or of other models are not comparable, nor is a baseline to be lost."""
    there = {"target": baseline.target, "recipe": baseline.recipe}
    here = {"target": target, "recipe": recipe}
    if here != there:
        raise UserError(
            f"Baseline {path} is for {_versions(there)}, asked is for {_versions(here)}. "
            "Name another baseline file; bench compare FILE --update makes one."
        )


def check_versions(baseline: Baseline, path: Path) -> None:
    """Bytes of other releases are not comparable."""
    here = {"torch": version("torch"), "timm": version("timm")}
    there = {"torch": baseline.torch, "timm": baseline.timm}
    if here != there:
        raise UserError(
            f"Baseline {path} was made with {_versions(there)}, here is {_versions(here)}. "
            "Install what it was made with, or accept these numbers: bench compare --update."
        )


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline whole."""
    write_json(path, asdict(baseline))


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
