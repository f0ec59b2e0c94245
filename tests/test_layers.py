"""The house: folders import downwards only, a listing explains them, and help costs nothing."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

# Each row may import the rows below it and nothing beside it or above.
BENCH = (
    ("cli",),
    ("schema",),
    ("diff",),
    ("compare",),
    ("report",),
    ("audit", "models"),
    ("evidence",),
    ("predict",),
    ("probe",),
    ("verify",),
    ("card", "doctor"),
    ("measure", "simulate"),
    ("trials",),
    ("options",),
)
DISTILL = (
    ("cli",),
    ("report",),
    ("run",),
    ("train",),
    ("step",),
    ("data", "device"),
    ("spec",),
    ("base",),
)
SIMULATE = (
    ("families", "user_step"),
    ("predictor",),
    ("peaks",),
    ("cache", "replay", "largest_batch"),
    ("trace",),
    ("kernels",),
    ("program", "allocator", "prediction"),
    ("torch_rules",),
)
LADDERS = {"bench": BENCH, "distill": DISTILL, "bench.simulate": SIMULATE}

HEAVY = {"torch", "pandas", "matplotlib", "pydantic", "timm", "numpy", "sklearn"}

WITHOUT_TORCH = (
    *("bench.trials.journal", "bench.card.budget", "bench.card.targets", "bench.doctor.problems"),
    *("bench.probe.grid", "bench.probe.choose", "bench.probe.search", "bench.probe.probe_plan"),
    *("bench.probe.grid_tables", "bench.compare.gate", "bench.predict.question"),
    *("bench.measure.isolate", "bench.measure.forkserver", "bench.simulate.allocator.blocks"),
    *("distill.base.files", "distill.spec.recipe", "distill.spec.profile"),
    *("distill.spec.stage_plan", "distill.spec.catalog", "distill.device.fingerprint"),
)
"""Decisions, files and the parents of child processes."""

COMMANDS = (
    *(("bench", name) for name in (
        "probe", "predict", "models", "compare", "verify", "evidence", "audit", "report",
        "schema", "diff", "cards", "doctor",
    )),
    *(("distill", name) for name in (
        "init", "run", "attention", "evaluate", "predict", "tables", "export", "clean"
    )),
    ("bench",),
    ("distill",),
)  # fmt: skip


def modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Every module of the packages by its dotted name, parsed."""
    for package in packages:
        for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, ast.parse(path.read_text())


def imported(tree: ast.AST) -> set[str]:
    """The names that a module imports anywhere in it, as `package.module.name`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(name: str, house: str) -> str | None:
    """The folder or module of a house that a dotted name lies in."""
    if not name.startswith(house + "."):
        return None
    return name.removeprefix(house + ".").split(".")[0]


@pytest.mark.parametrize("house", LADDERS)
def test_folders_import_downwards_only(house: str) -> None:
    level = {name: height for height, row in enumerate(LADDERS[house]) for name in row}
    wrong = []
    for name, tree in modules(house):
        here = room(name, house)
        if here in (None, "__main__"):
            continue
        assert here in level, f"{house} has a room that its ladder does not know: {here}"
        for target in sorted(imported(tree)):
            there = room(target, house)
            if there is not None and there != here and level[there] <= level[here]:
                wrong.append(f"{name} imports {target}")
    assert not wrong


def test_distill_never_imports_bench() -> None:
    wrong = [
        name for name, tree in modules("distill") if {t.split(".")[0] for t in imported(tree)}
        & {"bench"}
    ]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize(("house", "most"), [("bench", 17), ("distill", 9)])
def test_a_listing_explains_the_house(house: str, most: int) -> None:
    entries = [
        path.name
        for path in (ROOT / house).iterdir()
        if path.name != "__pycache__" and path.name not in ("__init__.py", "__main__.py")
    ]
    assert len(entries) <= most


def test_decisions_files_and_parents_load_no_torch() -> None:
    code = (
        f"import sys, {', '.join(WITHOUT_TORCH)}\n"
        "sys.exit('torch' in sys.modules and 'torch is loaded')\n"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    module = {"bench": "bench.cli", "distill": "distill.cli.main"}[words[0]]
    code = (
        "import sys\n"
        f"sys.argv = {[*words, '--help']!r}\n"
        f"from {module} import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.splitlines()[-1] == "[]"
    assert "Usage:" in child.stdout


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_imports_stand_at_the_top_of_modules_but_for_a_few_with_a_reason() -> None:
    inside = set()
    for name, tree in modules("bench", "distill"):
        source = (ROOT / name.replace(".", "/")).with_suffix(".py")
        for function in functions(tree):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    lines = source.read_text().splitlines()[node.lineno - 2 : node.end_lineno]
                    inside.add((name, node.lineno, any("#" in line for line in lines)))
    assert len(inside) < 44
    assert not [place for *place, has_reason in inside if not has_reason]


@pytest.mark.slow
def test_functions_have_at_most_40_lines_and_modules_about_300() -> None:
    trees = dict(modules("bench", "distill", "docker"))
    long = [
        f"{name}.{function.name}"
        for name, tree in trees.items()
        for function in functions(tree)
        if (function.end_lineno or 0) - function.lineno + 1 > 40
    ]
    assert not long
    assert not [name for name, tree in trees.items() if tree.body[-1].end_lineno > 305]


def test_a_name_has_one_meaning() -> None:
    classes: dict[str, list[str]] = defaultdict(list)
    files: dict[str, list[str]] = defaultdict(list)
    for name, tree in modules("bench", "distill"):
        files[name.rsplit(".", 1)[-1]].append(name)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(name)
    is_file = {
        stem: [name for name in names if (ROOT / f"{name.replace('.', '/')}.py").exists()]
        for stem, names in files.items()
        if stem not in ("command", "__main__")
    }
    assert not {stem: names for stem, names in is_file.items() if len(names) > 1}
    assert not {name: places for name, places in classes.items() if len(places) > 1}


def test_a_constant_is_assigned_once() -> None:
    for name, tree in modules("bench", "distill", "docker"):
        assigned = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for top in (node.targets if isinstance(node, ast.Assign) else [node.target])
            for target in ast.walk(top)
            if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)
        ]
        assert len(assigned) == len(set(assigned)), name


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["bench", "distill", "docker"])
def test_every_module_says_what_it_is_for(folder: str) -> None:
    found = list(modules(folder))
    assert found
    assert not [name for name, tree in found if len(ast.get_docstring(tree) or "") < 30]
