"""Models side by side: the numbers are the predictor's, the rest of the page follows from them."""

import csv
import io
import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from bench.card.targets import target_named
from bench.cli import main
from bench.measure.isolate import TRIAL_CHILD
from bench.models.command import DEFAULT_MODELS
from bench.models.compared_models import Comparison, comparison
from bench.models.figures_kept import known_models
from bench.models.model_changes import change, checkpointing_rows, grid_rows, precision_rows
from bench.models.model_documents import ModelsAnswer
from bench.models.model_figures import CellFigures, ModelFigures
from bench.models.model_page import PAGE_WIDTH, notes, one_of_them, page_of, tables_of
from bench.models.model_picture import MARKERS, models_figure
from bench.models.model_scores import recorded_models, scores_in
from bench.models.predict_models import describe
from bench.models.time_models import TimingDevice, time_models
from bench.simulate.predictor import Predictor
from distill.report.found_run import find_run
from distill.spec.candidate import ModelSpec
from distill.spec.recipe import Recipe, checked, load_recipe
from tests.bench.conftest import forked_child
from tests.conftest import RECIPE, ROOT
from tests.test_old_files import OLD

MIB = 2**20
SMALL = "teacher,test_resnet"


def plan_of(recipe: Recipe, names: str, **changes: Any) -> Comparison:
    """A comparison on an RTX 4050 Laptop."""
    whole = {
        "target": target_named("rtx4050"), "allocator": "expandable", "limit_bytes": 5007 * MIB,
        "precision": "fp16", "micro_batch": 32,
    } | changes  # fmt: skip
    return comparison(recipe, names, **whole)


def small_recipe(text: str) -> Recipe:
    return checked(json.dumps(tomllib.loads(text)), "here")


@pytest.mark.parametrize(
    ("recipe", "names", "model"),
    [
        ("demo", "student,teacher,resnet18", ""),
        ("demo", "student,resnet18", " --model resnet18"),
        ("cifar10", "vit_tiny", " --model vit_tiny"),
        ("demo", "student,assistant", None),
    ],
)
def test_the_command_named_at_the_end_predicts_one_of_the_models(
    recipe: str, names: str, model: str | None
) -> None:
    told = one_of_them(plan_of(load_recipe(recipe), names))
    command = f"bench predict --stage teacher{model} --batch-size 32 --precision fp16"
    assert told[1:] == ([] if model is None else [command])


@pytest.fixture
def plan() -> Comparison:
    """The write-up's four models."""
    return plan_of(load_recipe("cifar10"), DEFAULT_MODELS)


def made_up(plan: Comparison) -> list[ModelFigures]:
    """Figures as they could be: each further cell takes less and is slower; CNNs come first."""
    return [
        ModelFigures(
            kind="CNN" if "resnet" in cells[0].student.name else "ViT",
            parameters=23_528_522,
            cells=tuple(
                CellFigures(
                    candidate=cell,
                    reserved_bytes=(4000 - 300 * number) * MIB,
                    needed_bytes=(4100 - 300 * number) * MIB,
                    bound_bytes=100 * MIB,
                    images_per_second=900.0 - 80 * number,
                    largest_batch=57 if plan.is_first(cell) else None,
                )
                for number, cell in enumerate(cells)
            ),
        )
        for cells in plan.models
    ]


def answer(plan: Comparison, models: list[ModelFigures], **changes: Any) -> ModelsAnswer:
    nothing = {"scores": [], "recordings": [], "timed": {}, "timed_on": None}
    return ModelsAnswer(plan=plan, models=models, **(nothing | changes))


# -- predicted, through the command


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], Any]]:
    """A ViT and a ResNet compared, both small, what is found kept for the tests below."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "small.toml").write_text(RECIPE)
    (folder / "none").mkdir()
    arguments = [
        *("models", "--recipe", str(folder / "small.toml"), "--models", SMALL),
        *("--batch-size", "4", "--target", "rtx2060", "--vram", "0.832"),
        *("--evidence", str(folder / "none")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.chdir(folder)
        result = CliRunner().invoke(main, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        assert "predicting: 12 configurations" in result.stderr
        yield arguments, json.loads(result.stdout)


def small_plan(arguments: list[str], document: Any) -> Comparison:
    """What that command compares."""
    return plan_of(
        load_recipe(arguments[2]), SMALL, micro_batch=4, target=target_named("rtx2060"),
        limit_bytes=document["limit_bytes"],
    )  # fmt: skip


def test_every_configuration_of_every_model_is_predicted(compared) -> None:
    _, document = compared
    assert [(one["name"], one["kind"]) for one in document["models"]] == [
        ("vit_tiny (2 patch, 2 deep, 32 wide)", "ViT"), ("test_resnet", "CNN"),
    ]  # fmt: skip
    for model in document["models"]:
        cells = [(one["precision"], one["checkpointing"]) for one in model["configurations"]]
        assert cells == [(p, k) for p in ("fp32", "fp16") for k in (0, "cheap", 1)]
        assert model["weight_bytes"] == {
            "fp32": 4 * model["parameters"],
            "fp16": 2 * model["parameters"],
            "bf16": 2 * model["parameters"],
        }
        assert all(one["fits"] and one["source"] == "predicted" for one in model["configurations"])


def test_the_numbers_are_those_of_the_predictor(compared) -> None:
    arguments, document = compared
    plan = small_plan(arguments, document)
    predictor = Predictor(plan.target, plan.allocator)
    for cells, shown in zip(plan.models, document["models"], strict=True):
        first = next(cell for cell in cells if plan.is_first(cell))
        found = predictor.predict(first)
        cell = next(one for one in shown["configurations"] if one["largest_batch"] is not None)
        assert (cell["precision"], cell["checkpointing"]) == ("fp16", 0)
        assert cell["peak_reserved_bytes"] == found.reserved
        assert cell["needed_bytes"] == found.safe_bytes
        assert cell["images_per_second"] == found.expected_images_per_second
        assert cell["largest_batch"] == predictor.largest_batch(first, document["limit_bytes"])


def test_what_was_predicted_once_is_kept(compared) -> None:
    arguments, document = compared
    again = CliRunner().invoke(main, [*arguments, "--csv"])
    assert again.exit_code == 0 and "predicting" not in again.stderr
    rows = list(csv.DictReader(io.StringIO(again.stdout)))
    peaks = [c["peak_reserved_bytes"] for m in document["models"] for c in m["configurations"]]
    assert [int(row["peak_reserved_bytes"]) for row in rows] == peaks
    markdown = CliRunner().invoke(main, [*arguments, "--markdown"])
    assert "## Size" in markdown.stdout and "| test_resnet" in markdown.stdout


def test_kept_figures_that_cannot_be_trusted_are_told_and_not_used(compared, capsys) -> None:
    plan = small_plan(*compared)
    assert None not in known_models(plan)
    files = sorted(Path("six-gig-distill/models").glob("*.json"))
    kept = [file.read_text() for file in files]
    try:
        files[0].write_text(kept[1])  # another model's
        files[1].write_text(kept[1].replace('"kind": ', '"kind": "no such", "was": '))
        assert known_models(plan) == [None, None]
    finally:
        for file, text in zip(files, kept, strict=True):
            file.write_text(text)
    assert capsys.readouterr().err.count("Predicted anew.") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--models", "resnet5O"], 2, "timm has no model 'resnet5O'. Did you mean resnet50"),
        (["--models", " , "], 2, "--models names 0 models"),
        (["--models", ",".join(f"m{n}" for n in range(99))], 2, "--models names 99 models"),
        (["--json", "--csv"], 2, "Give one of --json and --csv, not both"),
        (["--target", "rtx2060", "--precision", "bf16"], 2, "no bf16"),
        (["--plot", "a.xyz"], 2, "must end in .png"),
        (["--run", "nowhere"], 2, "There is no run nowhere"),
        (["--run", str(OLD / "run")], 2, "trained none of these models on cifar10"),
        (["--device", "cuda", "--target", "h100"], 2, "leave --target out"),
    ],
)
def test_a_wrong_use_is_one_sentence(tmp_path, monkeypatch, arguments, code, sentence) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["models", *arguments])
    assert result.exit_code == code, result.output
    assert sentence in " ".join(result.output.split())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet18", "CNN"), ("test_efficientnet", "CNN"), ("vit_tiny", "ViT"), ("test_vit", "ViT"),
        ("test_coatnet", "CNN and attention"), ("mixer_s32_224", "other"),
    ],
)  # fmt: skip
def test_a_model_is_told_by_its_parts(name: str, kind: str) -> None:
    assert describe(ModelSpec(name=name, classes=10, image_size=224))[0] == kind


# -- what was measured


def test_accuracies_are_of_runs_that_trained_the_very_model() -> None:
    run = find_run(OLD / "run")
    found = scores_in(plan_of(run.recipe, "teacher,student,test_resnet"), run)
    assert [score.result.stage for score in found] == ["teacher"]  # the student is not finished
    other = small_recipe(RECIPE.replace("width = 32", "width = 64"))
    assert not scores_in(plan_of(other, "teacher"), run)
    assert not scores_in(plan_of(load_recipe("cifar10"), "teacher"), run)


def test_an_accuracy_stands_beside_what_was_claimed(plan) -> None:
    run = find_run(OLD / "run")
    score = scores_in(plan_of(run.recipe, "teacher"), run)[0]
    score = replace(score, model=plan.models[0][0].student)
    tables = tables_of(answer(plan, made_up(plan), scores=[score]))
    rows = next(rows for title, rows in tables.items() if title.startswith("Accuracy"))
    assert rows[0]["accuracy % ± s.e."].startswith(f"{100 * score.result.test_accuracy:.2f} ±")
    assert [row["claims %"] for row in rows] == ["95", "96", "93", "93"]
    assert [row["run"] for row in rows] == [str(OLD / "run"), "none", "none", "none"]


def test_recordings_of_cards_are_found_for_the_same_configuration(plan) -> None:
    found = {
        (one.candidate.student.name, one.candidate.label, one.card): one.reserved_bytes // MIB
        for one in recorded_models(plan, ROOT / "results" / "evidence")
    }
    assert found["resnet50", "fp16", "NVIDIA H200"] == 1732
    assert found["vit_base_patch16_224", "fp16+ckpt", "NVIDIA H200"] == 1688
    assert not recorded_models(replace(plan, models=()), ROOT / "results" / "evidence")


@pytest.mark.slow
def test_a_model_is_timed_on_a_device_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(small_recipe(RECIPE), "student", precision="fp32", micro_batch=4)
    timed = time_models(plan, TimingDevice(name="cpu", kind="cpu"), forked_child(TRIAL_CHILD))
    (one,) = timed.values()
    assert one.images_per_second > 0 and one.reserved_bytes is None
    tables = tables_of(answer(plan, made_up(plan), timed=timed, timed_on="cpu"))
    (row,) = next(rows for title, rows in tables.items() if title.startswith("Training"))
    assert row["speed"] == "measured" and row["measured MiB"] == "–"


# -- the page


def test_the_page_of_the_four_models_fits_a_terminal_of_80_columns(plan) -> None:
    text = page_of(answer(plan, made_up(plan)), markdown=False)
    assert max(map(len, text.splitlines())) <= PAGE_WIDTH
    for words in ("100.00 MiB of resnet50", "a bound for cuDNN", "--run", "--model resnet50"):
        assert words in text


def test_a_configuration_that_cannot_be_is_a_dash_and_its_reason_is_told(plan) -> None:
    models = made_up(plan)
    cells = [
        CellFigures(candidate=cell.candidate, refused="It can't be.")
        if cell.candidate.checkpointing == 1
        else cell
        for cell in models[0].cells
    ]
    found = answer(plan, [replace(models[0], cells=tuple(cells)), *models[1:]])
    assert checkpointing_rows(plan, found.models)[1] == {
        "model": "resnet50", "run again": "every block", "saves MiB": "–", "saves": "–",
        "fewer images/s": "–", "takes longer": "–",
    }  # fmt: skip
    assert "resnet50, fp32+ckpt, fp16+ckpt, bf16+ckpt: It can't be." in notes(found)
    page_of(found, markdown=True)
    models_figure(plan, found.models)


sizes = st.integers(1, 2**40)
speeds = st.floats(1e-3, 1e6)


@given(sizes, sizes, speeds, speeds)
def test_a_change_adds_up(before: int, after: int, speed: float, later: float) -> None:
    family = plan_of(load_recipe("cifar10"), "vit_tiny").models[0][0]
    one, other = (
        CellFigures(candidate=family, reserved_bytes=size, images_per_second=rate)
        for size, rate in ((before, speed), (after, later))
    )
    found = change(one, other)
    assert found is not None
    assert before - found.saved_bytes == after
    assert found.saved_share <= 1 and found.times_as_fast * speed == pytest.approx(later)
    assert change(one, None) is None and change(None, other) is None


def test_a_range_is_from_the_lowest_to_the_highest_of_the_grid(plan) -> None:
    rows = checkpointing_rows(plan, made_up(plan))
    assert rows[0]["saves MiB"] == "300" and rows[1]["saves MiB"] == "600"
    assert rows[1]["saves"] == "15–27 %" and rows[-1]["saves"] == "40 %"
    gains = precision_rows(plan, made_up(plan))
    assert gains[0] == {
        "model": "resnet50", "precision": "fp16", "saves MiB": "900",
        "saves": "22–26 %", "more images/s": "-240", "times as fast": "0.68–0.73",
    }  # fmt: skip


def test_what_does_not_fit_is_crossed(plan) -> None:
    models = made_up(plan)
    at = models[0].cells[0].needed_bytes
    assert at is not None
    assert "×" not in str(grid_rows(replace(plan, limit_bytes=at), models))
    row = grid_rows(replace(plan, limit_bytes=at - 1), models)[0]
    assert "×" in row["fp32"] and "×" not in row["fp16"]


def test_a_stage_of_the_recipe_and_its_name_are_one_model(plan) -> None:
    twice = plan_of(plan.recipe, "teacher,vit_base,vit_base_patch16_224")
    assert twice.models == (plan.models[1],)
    assert all(cells[0].teacher is None for cells in plan.models)


def test_kinds_are_told_apart_in_grey(plan) -> None:
    (shape, filling), (other_shape, other_filling) = MARKERS["CNN"], MARKERS["ViT"]
    assert shape != other_shape
    assert abs(sum(to_rgb(filling)) - sum(to_rgb(other_filling))) > 1.5
    names = {text.get_text() for text in models_figure(plan, made_up(plan)).axes[0].texts}
    assert {"resnet50", "vit_base", "resnet18", "vit_tiny", "limit 5,007 MiB"} <= names
