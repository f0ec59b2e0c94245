"""Published schemas, held against every committed file by a reader of their own."""

import gzip
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.card.targets import target_named
from bench.cli import main
from bench.predict.document import as_json, fit_document, largest_batch_document
from bench.predict.explain import Gain, Proposal
from bench.schema.command import FORMS
from bench.schema.schemas import DIALECT, schema_of
from bench.simulate.predictor import Predictor
from distill.base.units import MIB
from distill.spec.candidate import Candidate
from tests.bench.schema.json_schema import problems
from tests.conftest import ROOT

OLD = ROOT / "tests" / "old_files"
FILES: dict[str, list[Path]] = {
    "profile": [
        *(ROOT / "profiles").glob("*.json"),
        *(ROOT / "results" / "evidence").glob("*/*.profile.json"),
        *(OLD / name for name in ("demo-6gb.json", "rtx4050.json")),
    ],
    "trial": [OLD / "trials.jsonl.gz", ROOT / "results/evidence/h200/trials.jsonl.gz"],
    "baseline": [ROOT / "results/baseline/memory.json"],
    "recipe": [*(ROOT / "distill/spec/recipes").glob("*.toml")],
    "result": [OLD / "student-result.json", *OLD.glob("run/*/result.json")],
    "recording": sorted(
        (ROOT / "results/evidence").glob("*/golden*.json.gz"), key=lambda path: path.stat().st_size
    ),
}


def documents(path: Path) -> list[Any]:
    """A file's documents: each line of a journal, else one."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    if path.suffix == ".toml":
        return [tomllib.loads(text)]
    if path.name.endswith(".jsonl.gz"):
        return [json.loads(line) for line in text.splitlines()]
    return [json.loads(text)]


SLOW = {"recording": [pytest.mark.slow]}


@pytest.mark.parametrize("name", [pytest.param(one, marks=SLOW.get(one, [])) for one in FILES])
def test_every_committed_file_is_as_its_schema_says(name: str) -> None:
    schema = schema_of(FORMS[name])
    assert FILES[name]
    for path in FILES[name]:
        for number, document in enumerate(documents(path)):
            assert problems(schema, document, schema) == [], (path, number)


def test_every_answer_of_a_prediction_is_as_its_schema_says(small_candidate: Candidate) -> None:
    predictor = Predictor(target_named("rtx4050"), "expandable")
    found = predictor.predict(small_candidate)
    gain = Gain(Proposal("a change", small_candidate), 1, 2, 3.5)
    cached = replace(found, caching=found)
    schema = schema_of(FORMS["predict"])
    for answer in (
        fit_document(found, MIB),
        fit_document(cached, 2**40, [gain]),
        largest_batch_document(found, cached, MIB, [gain]),
        largest_batch_document(None, None, MIB),
    ):
        document = json.loads(as_json(answer))
        assert problems(schema, document, schema) == []
        del document["limit_bytes"]
        assert problems(schema, document, schema)


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("profile", lambda document: document.pop("choices")),
        ("profile", lambda document: document.update(status="proven")),
        ("profile", lambda document: document.update(extra=1)),
        ("profile", lambda document: document["choices"][0]["breakdown"].pop("teacher")),
        ("profile", lambda document: document["choices"][0]["breakdown"].update(others=1)),
        ("trial", lambda document: document.update(schema=2)),
        ("trial", lambda document: document.pop("schema")),
        ("trial", lambda document: document["reading"].update(source="guessed")),
        ("baseline", lambda document: document["cells"][0].update(reserved_bytes=-1)),
        ("baseline", lambda document: document.update(schema="1")),
        ("recording", lambda document: document["recordings"][0].pop("marks")),
        ("recipe", lambda document: document["training"].update(epochs=0)),
        ("result", lambda document: document.update(test_accuracy=1.5)),
    ],
)
def test_what_the_readers_refuse_the_schema_refuses_too(name: str, break_it: Any) -> None:
    schema = schema_of(FORMS[name])
    document = documents(FILES[name][0])[0]
    break_it(document)
    assert problems(schema, document, schema)


@pytest.mark.parametrize("name", FORMS)
def test_the_command_prints_one_schema_and_nothing_else(name: str) -> None:
    result = CliRunner().invoke(main, ["schema", name])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["$schema"] == DIALECT
    assert "$defs" in document or "properties" in document


def test_without_a_name_the_forms_are_listed_and_an_unknown_one_is_refused() -> None:
    listed = CliRunner().invoke(main, ["schema"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in FORMS)
    assert listed.output.rstrip().endswith("Next: bench schema profile > profile.schema.json")
    refused = CliRunner().invoke(main, ["schema", "profiles"])
    assert (
        refused.exit_code == 2 and "'profiles' is not one of 'profile', 'trial'" in refused.output
    )
