"""A report: the numbers of the other commands on one page, which asks for nothing from elsewhere.

A page is looked at by a real browser where there is one (Debian: chromium-headless-shell).
"""

import csv
import gzip
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.card.targets import target_named
from bench.models.figures_kept import keep
from bench.probe.make_profile import Probed, make_profile
from bench.probe.probe_plan import plan_probe
from bench.report.command import ReportOptions
from bench.report.from_models import models_part, models_plan
from bench.report.from_profile import GivenProfile, what_fits
from bench.report.from_run import run_parts
from bench.report.page import markdown_text, page_text, write_tables
from bench.report.parts import ReportPart, WholeReport
from bench.report.timeline_by_owner import owned_timeline
from bench.report.timeline_shapes import HEIGHT, OwnedTimeline
from bench.report.whole import gather, write_report
from bench.simulate.predictor import Predictor
from bench.simulate.replay import Replay
from bench.trials.journal import Journal
from distill.base.errors import UserError
from distill.report.class_report import write_class_report
from distill.report.figure import new_figure, save
from distill.report.found_run import FoundRun, find_run
from distill.report.tables import accuracy_rows, breakdown_rows
from distill.spec.candidate import Candidate
from distill.spec.file_values import OWNERS
from distill.spec.profile import read_profile, write_profile
from distill.spec.recipe import load_recipe
from distill.train.class_scores import ClassScore, ClassScores
from tests.bench.models.test_model_answer import made_up
from tests.conftest import RECIPE, ROOT
from tests.test_old_files import OLD

BROWSER = "chromium-headless-shell"
"""Others draw no window as narrow as a phone."""

HOSTILE = "<script>alert(1)</script>|&"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two finished stages, a profile for it, and the journal of its probe."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(OLD / "run", folder / "run")
    journal = folder / "trials.jsonl"
    journal.write_bytes(gzip.decompress((OLD / "trials.jsonl.gz").read_bytes()))
    (folder / "small.toml").write_text(RECIPE)
    plan = plan_probe(
        recipe=load_recipe(str(folder / "small.toml")), vram_gib=6, target=target_named("rtx4050"),
        card=None, allocator="expandable", device="predict", name="small", journal=journal,
    )  # fmt: skip
    predicted = tuple(Journal(journal).trials)
    write_profile(
        folder / "small.json", make_profile(plan, Probed(predicted=predicted, measured=()))
    )
    scores = (
        ClassScore(name=HOSTILE, images=4, right=3, false_positives=2, auc=0.75),
        ClassScore(name="b", images=6, right=4, false_positives=1, auc=None),
    )
    found = ClassScores(rows=scores, images=10, confusion=np.array([[3, 1], [2, 4]]))
    write_class_report(folder / "run" / "teacher", found, "teacher")
    figure = new_figure(9, 3)
    (folder / "run" / "teacher" / "visualizations").mkdir()
    save(folder / "run/teacher/visualizations/attention_maps_heads.png", figure)
    return folder


def options(work: Path, **changes: object) -> ReportOptions:
    asked = ReportOptions(
        run=work / "run", profile=work / "small.json", evidence=work / "none", quick=True,
        out=work / "report.html", tables=None, recordings=False,
    )  # fmt: skip
    return replace(asked, **changes)


@pytest.fixture(scope="module")
def played(small: Candidate) -> tuple[Replay, OwnedTimeline]:
    predictor = Predictor(target_named("rtx4050"), "expandable")
    program, run = predictor.run(small, timeline=True)
    return run, owned_timeline(program, run, run.reserved + 1, "a step", "predicted")


@pytest.fixture(scope="module")
def small(work: Path) -> Candidate:
    return load_recipe(str(work / "small.toml")).candidate("student")


@pytest.fixture(scope="module")
def run(work: Path) -> FoundRun:
    return find_run(work / "run")


@pytest.fixture(scope="module")
def gathered(work: Path, run: FoundRun, played: tuple[Replay, OwnedTimeline]) -> WholeReport:
    path = work / "small.json"
    found = gather(options(work), run, GivenProfile(path=path, profile=read_profile(path)))
    step = ReportPart(title="Timeline of a step", timelines=[played[1]])
    parts = [step if part.title == step.title else part for part in found.parts]
    return replace(found, parts=parts)


def part_of(report: WholeReport, title: str) -> ReportPart:
    return next(part for part in report.parts if part.title == title)


def test_the_verdict_comes_first_and_answers_four_questions(gathered: WholeReport) -> None:
    questions = {answer.question: answer for answer in gathered.verdict}
    assert list(questions) == ["What fits?", "What was chosen?", "How long?", "How good?"]
    assert questions["What fits?"].short == "every stage fits"
    assert "trained on a CPU" in questions["What was chosen?"].sentences[-1]
    assert "Not finished: student" in questions["How good?"].sentences[-1]
    text = page_text(gathered)
    assert text.index("What fits?") < text.index("<main>")


def test_tables_are_those_of_the_other_commands(
    gathered: WholeReport, run: FoundRun, work: Path
) -> None:
    scores, *_ = part_of(gathered, "Accuracy by stage").tables
    assert scores.rows == accuracy_rows(run.results(), run.titles)
    (budget,) = part_of(gathered, "Memory budget").tables
    assert budget.rows == breakdown_rows(read_profile(work / "small.json").choices)
    (by_class,) = part_of(gathered, "Scores by class").tables
    assert [row["F1 %"] for row in by_class.rows] == ["66.67", "72.73"]


def test_every_table_and_picture_names_its_source(gathered: WholeReport) -> None:
    shown = [one for part in gathered.parts for one in (*part.tables, *part.pictures)]
    assert len(shown) > 10 and all(one.source for one in shown)
    assert page_text(gathered).count("Source: ") >= len(shown)


def test_what_is_not_there_is_told_with_what_would_bring_it() -> None:
    missing = {part.title: part.missing or "" for part in run_parts(find_run(OLD / "run"))}
    assert "distill attention" in missing["Attention"]
    assert "distill evaluate" in missing["Scores by class"]
    assert "bench probe" in what_fits(None).sentences[0]


def test_a_damaged_file_is_left_out_or_refused_by_its_name(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work / "run", tmp_path / "run")
    teacher = tmp_path / "run" / "teacher"
    (teacher / "visualizations" / "attention_maps_torn.png").write_bytes(b"\x89PNG")
    parts = {part.title: part for part in run_parts(find_run(tmp_path / "run"))}
    assert len(parts["Attention"].pictures) == 1
    assert "attention_maps_torn.png is left out: it is no PNG" in capsys.readouterr().err
    (teacher / "classes.csv").write_text("class,images\n0,many\n")
    with pytest.raises(UserError, match=r"classes\.csv is damaged"):
        run_parts(find_run(tmp_path / "run"))


def test_names_from_files_are_text_and_nothing_else(gathered: WholeReport) -> None:
    text = page_text(gathered)
    assert HOSTILE not in text and html.escape(HOSTILE) in text
    assert text.count("<script>") == 1
    assert HOSTILE.replace("|", "\\|") in markdown_text(gathered)


def test_the_page_asks_for_no_address(gathered: WholeReport) -> None:
    text = page_text(gathered)
    addresses = re.findall(r"""(?:src|href|action)=["']([^"']{0,12})""", text)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|https?:|//[a-z]+\.", re.sub(r"base64,\S+", "", text))


def test_tables_come_as_markdown_json_and_csv_with_the_same_rows(
    gathered: WholeReport, tmp_path: Path
) -> None:
    count = write_tables(tmp_path, gathered)
    document = json.loads((tmp_path / "report.json").read_text())
    tables = [table for part in document["parts"] for table in part["tables"]]
    files = sorted(tmp_path.glob("*.csv"))
    assert len(files) == len(tables) == count
    for file, table in zip(files, tables, strict=True):
        assert list(csv.DictReader(file.read_text().splitlines())) == table["rows"]
        assert f"### {table['title']}" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("damaged", [False, True])
def test_no_table_of_an_earlier_report_stays_and_no_other_file_goes(
    gathered: WholeReport, tmp_path: Path, damaged: bool
) -> None:
    (tmp_path / "01-my-own.csv").write_text("kept")
    count = write_tables(tmp_path, gathered)
    if damaged:
        (tmp_path / "report.json").write_text('{"parts": 1}')
    shorter = replace(gathered, parts=[part for part in gathered.parts if not part.tables])
    assert write_tables(tmp_path, shorter) == 0
    left = {file.name for file in tmp_path.glob("*.csv")}
    assert "01-my-own.csv" in left and len(left) == (count + 1 if damaged else 1)


def test_blocks_are_stacked_to_what_is_requested(played: tuple[Replay, OwnedTimeline]) -> None:
    """The highest outline in the drawing is the peak, and each owner has what it has there."""
    run, drawn = played
    assert run.timeline is not None
    top = 1.05 * (run.reserved + 1)
    highest = min(int(height) for s in drawn.shapes for height in re.findall(r"V(\d+)", s.path))
    assert highest == HEIGHT - round(sum(run.peak.owned.values()) * HEIGHT / top)
    owners = {owner.owner for owner in drawn.owners}
    assert owners >= {owner for owner in OWNERS if run.peak.owned[owner]}
    assert abs(sum(phase.percent for phase in drawn.phases) - 100) < 1e-6


def test_a_block_names_its_op_and_its_module(played: tuple[Replay, OwnedTimeline]) -> None:
    words = [shape.words for shape in played[1].shapes]
    assert any(re.search(r"MiB of activations.*: \S+ in student\.blocks\.0", one) for one in words)


def test_a_report_of_nothing_is_refused(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="nothing to report on"):
        write_report(options(work, run=None, profile=None, out=tmp_path / "r.html"))
    with pytest.raises(UserError, match=r"must end in \.html"):
        write_report(options(work, out=tmp_path / "report.txt"))
    assert not list(tmp_path.iterdir())


LOOK = """<script>
addEventListener("load", () => {
  const small = [...document.querySelectorAll("body *")].filter((one) =>
    [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) &&
    !["SCRIPT", "STYLE", "title"].includes(one.tagName) &&
    parseFloat(getComputedStyle(one).fontSize) < 12);
  document.body.dataset.found = JSON.stringify({
    inner: innerWidth, scrolled: document.documentElement.scrollWidth,
    small: small.map((one) => one.outerHTML.slice(0, 80)),
    broken: [...document.images].filter((one) => !one.naturalWidth).length});
});
</script>"""


def looked_at(text: str, folder: Path, width: int) -> tuple[dict[str, Any], str, set[str]]:
    """What a page is like in a browser, what it complains of, and the schemes it asks for."""
    browser = shutil.which(BROWSER)
    if browser is None:
        pytest.skip(f"no browser is here: apt-get install {BROWSER} fonts-dejavu-core")
    page, log = folder / "page.html", folder / "requests.json"
    page.write_text(text.replace("</body>", LOOK + "</body>"))
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={folder / 'user'}", f"--log-net-log={log}",
            f"--window-size={width},900", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = re.search(r'data-found="([^"]*)"', done.stdout)
    assert told is not None
    asked_for = set(re.findall(r'"url":"([a-z]+):', log.read_text()))
    return json.loads(html.unescape(told[1])), done.stderr, asked_for


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_browser_finds_nothing_wrong(gathered: WholeReport, tmp_path: Path, width: int) -> None:
    """No error, no request, no sideways scrolling, no text under 12 px, no broken picture."""
    found, complaints, asked_for = looked_at(page_text(gathered), tmp_path, width)
    assert "CONSOLE" not in complaints
    assert found["inner"] == width
    assert found["scrolled"] <= width and not found["small"] and not found["broken"]
    assert asked_for <= {"file", "data"}


def test_a_browser_would_find_what_is_wrong(tmp_path: Path) -> None:
    wrong = (
        "<body><p style='font-size: 9px; width: 999px'>small</p><img src='http://127.0.0.1:9/'>"
        "<script>missing()</script></body>"
    )
    found, complaints, asked_for = looked_at(wrong, tmp_path, 390)
    assert "CONSOLE" in complaints and "http" in asked_for
    assert found["scrolled"] > 390 and found["small"] and found["broken"] == 1


def test_models_are_compared_on_the_page_once_they_are_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe, path = load_recipe("cifar10"), ROOT / "profiles" / "rtx4050.json"
    given = GivenProfile(path=path, profile=read_profile(path))
    missing = models_part(recipe, given, None).missing
    assert missing is not None
    assert f"bench models --recipe cifar10 --target {path} --vram 6 predicts it" in missing
    plan = models_plan(recipe, given)
    for figures in made_up(plan):
        keep(plan, figures)
    part = models_part(recipe, given, None)
    assert part.missing is None and len(part.tables) == 6 and len(part.pictures) == 1
    assert "resnet50" in page_text(WholeReport(title="", about="", verdict=[], parts=[part]))
    assert models_part(None, given, None).missing and models_part(recipe, None, None).missing
