"""The GitHub Action, run as GitHub runs it, in a repository with planted regressions."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bench import cli
from bench.compare.baseline import read_baseline, write_baseline
from distill.base.units import MIB
from tests.conftest import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
BASELINE = "results/baseline/memory.json"
TINY = """
name = "tiny"
about = "One small ViT"
dataset = "digits"
image_size = 8
pretrained = false
seed = 0

[training]
epochs = 1
effective_batch = 32
learning_rate = 2e-3
weight_decay = 0.05
warmup_epochs = 0
clip_norm = 1.0

[[stage]]
name = "student"
model = { name = "vit_tiny_patch16_224", patch_size = 4, depth = 1, width = 32, heads = 2 }
"""


@dataclass(frozen=True)
class Done:
    """What a step of a job leaves behind."""

    exit_code: int
    log: str
    outputs: dict[str, str]
    summary: str

    @property
    def comment(self) -> str:
        return Path(self.outputs["comment-file"]).read_text()


class Repository:
    """A user's repository, checked out on a runner."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.temporary = folder / "checkout", folder / "temporary"
        for made in (self.checkout, self.temporary):
            made.mkdir()
        self._git("init", "--quiet")

    def commit(self, branch: str, **texts: str | None) -> None:
        """Put files (`baseline`, `recipe`; with `None` none) on a branch that is checked out."""
        self._git("checkout", "--quiet", "-B", branch)
        for name, text in texts.items():
            path = self.checkout / {"baseline": BASELINE, "recipe": "tiny.toml"}[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", branch)

    def run_action(self, **given: str) -> Done:
        """The last step of `action.yml` with its inputs, as `with:` gives them."""
        assert given.keys() <= ACTION["inputs"].keys()
        inputs = {name: one["default"] for name, one in ACTION["inputs"].items()}
        inputs |= {"install": "false"} | given
        step = ACTION["runs"]["steps"][-1]
        written = {name: self.temporary / name for name in ("output", "summary")}
        for path in written.values():
            path.write_text("")
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.temporary),
            "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
            "PYTHONPATH": str(ROOT),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_OUTPUT": str(written["output"]),
            "GITHUB_STEP_SUMMARY": str(written["summary"]),
            "GITHUB_WORKSPACE": str(self.checkout),
            "RUNNER_TEMP": str(self.temporary),
        } | {name: _filled(text, inputs) for name, text in step["env"].items()}
        shell = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
        ended = subprocess.run(
            shell, cwd=self.checkout, env=environment, capture_output=True, text=True, timeout=300
        )
        lines = written["output"].read_text().splitlines()
        return Done(
            ended.returncode,
            ended.stdout + ended.stderr,
            {name: value for name, _, value in (line.partition("=") for line in lines)},
            written["summary"].read_text(),
        )

    def _git(self, *arguments: str) -> None:
        person = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
        nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        subprocess.run(
            ["git", *person, *arguments], cwd=self.checkout, env=os.environ | nobody, check=True
        )


def _filled(text: str, inputs: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], text)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository whose main branch has this project's baseline."""
    made = Repository(tmp_path)
    made.commit("main", baseline=(ROOT / BASELINE).read_text())
    return made


def planted(folder: Path, by_bytes: int) -> Path:
    """Predicted cells, of which one takes more (or less) than in the baseline."""
    baseline = read_baseline(ROOT / BASELINE)
    first, *others = baseline.cells
    moved = replace(first, reserved_bytes=first.reserved_bytes + by_bytes)
    path = folder / "predicted.json"
    write_baseline(path, replace(baseline, cells=(moved, *others)))
    return path


def test_a_composite_action_names_shell_inputs_and_outputs_as_github_wants() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert all("shell" in step for step in ACTION["runs"]["steps"] if "run" in step)
    for one in ACTION["inputs"].values():
        assert isinstance(one["default"], str) and one["description"]
    for name, one in ACTION["outputs"].items():
        assert one["value"] == f"${{{{ steps.compare.outputs.{name} }}}}" and one["description"]
    runs = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]
    assert not any("${{" in run for run in runs), "an input would be run as a program"
    for run in runs:
        (script,) = re.findall(r"\$GITHUB_ACTION_PATH/([\w./-]+)", run)
        assert subprocess.run(["bash", "-n", ROOT / script]).returncode == 0


def test_what_is_the_same_is_green(repository: Repository, tmp_path: Path) -> None:
    done = repository.run_action(current=str(planted(tmp_path, 0)))
    assert done.exit_code == 0, done.log
    assert done.summary.startswith("**Memory** · the same: 54 cells")
    assert done.outputs.keys() == ACTION["outputs"].keys()
    assert done.outputs["verdict"] == "**Memory** · the same: 54 cells"
    assert done.outputs["exit-code"] == "0"
    marker = done.outputs["comment-marker"]
    assert marker == "<!-- bench compare cifar10 rtx4050 -->"
    assert done.comment == f"{marker}\n\n{done.summary}"
    assert len(json.loads(Path(done.outputs["metrics-file"]).read_text())) == 54
    assert len(json.loads(Path(done.outputs["bencher-file"]).read_text())) == 54


def test_what_takes_more_is_red_by_the_baseline(repository: Repository, tmp_path: Path) -> None:
    done = repository.run_action(current=str(planted(tmp_path, 2 * MIB)))
    assert done.exit_code == 1 and done.outputs["exit-code"] == "1"
    assert done.summary.startswith("**Memory** · worse: teacher/fp32/8x16 by +2.00 MiB reserved")
    assert done.outputs["metrics-file"], "a chart wants the numbers of a regression most of all"


def test_what_takes_less_is_a_stale_baseline(repository: Repository, tmp_path: Path) -> None:
    done = repository.run_action(current=str(planted(tmp_path, -2 * MIB)))
    assert done.exit_code == 5
    assert "The baseline is stale." in done.comment


def test_limits_alone_decide_where_there_are_some(repository: Repository, tmp_path: Path) -> None:
    current = str(planted(tmp_path, 2 * MIB))
    done = repository.run_action(current=current, limit="\nteacher=20 GiB\n student = 5 GiB \n\n")
    assert done.exit_code == 0
    assert done.summary.startswith("**Memory** · within limits: student/")
    assert "Against the baseline: worse: " in done.summary
    done = repository.run_action(current=current, limit="teacher/fp16/32*=3 GiB\nstudent=5 GiB")
    assert done.exit_code == 4 and done.outputs["exit-code"] == "4"
    assert done.outputs["verdict"].startswith(
        "**Memory** · over the limit: teacher/fp16/32x4 takes"
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"limit": "much"}, "'much' is no limit"),
        ({"limit": "techer=5 GiB", "current": BASELINE}, "Did you mean teacher"),
        ({"tolerance": "$(touch hacked)"}, "is not a"),
        ({"baseline": "--update"}, "--update"),
        ({"target": "rtx4049"}, "rtx4050"),
    ],
)
def test_what_cannot_be_compared_says_so_in_the_comment_too(
    repository: Repository, given: dict[str, str], sentence: str
) -> None:
    before = (repository.checkout / BASELINE).read_bytes()
    done = repository.run_action(**given)
    assert done.exit_code == 2 and done.outputs["exit-code"] == "2"
    assert done.comment.splitlines()[2] == "**Memory** · not compared."
    assert sentence in done.comment and sentence in done.log
    assert done.outputs["metrics-file"] == done.outputs["bencher-file"] == ""
    assert [path.name for path in repository.checkout.iterdir() if path.name != ".git"] == [
        "results"
    ]
    assert (repository.checkout / BASELINE).read_bytes() == before


def test_what_was_installed_is_run_however_true_is_spelt(repository: Repository) -> None:
    installed = repository.temporary / "six-gig-distill" / "bin" / "bench"
    installed.parent.mkdir(parents=True)
    installed.write_text("#!/bin/sh\necho installed\n")
    installed.chmod(0o755)
    assert repository.run_action(install="True").summary == "installed\n"


def test_a_name_ends_neither_the_marker_nor_the_outputs(repository: Repository) -> None:
    done = repository.run_action(recipe="--> <b>\nexit-code=0\n")
    assert done.exit_code == 2 and done.outputs["exit-code"] == "2"
    assert done.outputs["comment-marker"] == "<!-- bench compare ___ _b__exit_code_0_ rtx4050 -->"


@pytest.mark.slow
def test_a_pull_request_that_widens_a_model_is_red(
    repository: Repository, workers_are_forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("add-recipe", recipe=TINY, baseline=None)
    monkeypatch.chdir(repository.checkout)
    made = CliRunner().invoke(cli.main, ["compare", "--recipe", "tiny.toml", "--update"])
    assert made.exit_code == 0, made.output
    repository.commit("wider", recipe=TINY.replace("width = 32", "width = 256"))
    done = repository.run_action(recipe="tiny.toml")
    assert done.exit_code == 1, done.log
    assert done.summary.startswith("**Memory** · worse: 18 cells; most: student/")
    assert done.comment.startswith("<!-- bench compare tiny.toml rtx4050 -->\n")
