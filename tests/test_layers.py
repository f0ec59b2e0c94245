"""Imports go one way, and help costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "pandas", "matplotlib", "pydantic", "timm", "numpy", "sklearn"}
PURE_BENCH = ("grid.py", "choose.py", "report.py", "trials.py", "cards.py", "show.py", "search.py")


def imported_by(path: Path) -> set[str]:
    """The names that a module imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_distill_never_imports_bench() -> None:
    offenders = [
        path
        for path in (ROOT / "distill").rglob("*.py")
        if any(name.split(".")[0] == "bench" for name in imported_by(path))
    ]
    assert not offenders


@pytest.mark.parametrize("module", PURE_BENCH)
def test_decisions_do_not_import_torch(module: str) -> None:
    assert not {name.split(".")[0] for name in imported_by(ROOT / "bench" / module)} & {"torch"}


@pytest.mark.parametrize("package", ["bench", "distill"])
def test_help_loads_nothing_heavy(package: str) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['{package}', '--help']\n"
        f"from {package}.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.splitlines()[-1] == "[]"
    assert "Usage:" in child.stdout


@pytest.mark.parametrize("folder", ["bench", "distill", "docker"])
def test_every_module_says_what_it_is_for(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    assert modules
    assert not [path for path in modules if not ast.get_docstring(ast.parse(path.read_text()))]
