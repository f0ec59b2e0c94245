"""Imports inside the engine go down one list, and what it takes from outside is named."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "bench" / "simulate"

BELOW = {
    "families": {"predictor", "cache", "replay", "largest_batch", "program"},
    "predictor": {"cache", "replay", "largest_batch", "trace", "kernels", "program", "allocator"},
    "cache": {"program"},
    "replay": {"program", "allocator"},
    "largest_batch": set(),
    "trace": {"program"},
    "kernels": {"program"},
    "program": set(),
    "allocator": set(),
}
"""What each part of the engine may import of the others."""

OUTSIDE = ("distill.spec", "distill.step", "distill.base", "distill.data", "distill.device")


def imported_by(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module}
    return {name for name in names if name.split(".")[0] in ("bench", "distill")}


def modules(part: str) -> list[Path]:
    folder = FOLDER / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [FOLDER / f"{part}.py"]


def test_every_part_has_its_place() -> None:
    parts = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    parts |= {path.name for path in FOLDER.iterdir() if (path / "__init__.py").exists()}
    assert parts == set(BELOW)


@pytest.mark.parametrize("part", BELOW)
def test_a_part_imports_only_those_below_it(part: str) -> None:
    own = f"bench.simulate.{part}"
    allowed = [own, "bench.trials", *OUTSIDE, *(f"bench.simulate.{one}" for one in BELOW[part])]
    for path in modules(part):
        for name in imported_by(path):
            assert any(f"{name}.".startswith(f"{one}.") for one in allowed), (path, name)
