"""`bench schema`: the form of a file as JSON Schema. Parses, calls and prints."""

from dataclasses import dataclass
from typing import Literal

import click

from distill.base.console import OneOf


@dataclass(frozen=True, kw_only=True)
class PublishedForm:
    """A form that other programs may rely on: where its type stands, and where it is met.

    `mode` is pydantic's: what is read is described as it may be read, what is only written as it
    is written.
    """

    type: str
    met: str
    mode: Literal["validation", "serialization"] = "validation"


FORMS = {
    "profile": PublishedForm(type="distill.spec.profile:Profile", met="profiles/*.json"),
    "trial": PublishedForm(type="bench.trials.trial:Trial", met="a line of trials.jsonl"),
    "baseline": PublishedForm(
        type="bench.compare.baseline:Baseline", met="results/baseline/memory.json"
    ),
    "recipe": PublishedForm(
        type="distill.spec.recipe:Recipe", met="distill/spec/recipes/*.toml, --recipe FILE"
    ),
    "result": PublishedForm(
        type="distill.train.run_folder:StageResult", met="RUN/STAGE/result.json"
    ),
    "recording": PublishedForm(
        type="bench.evidence.recording:RecordingSet", met="golden*.json.gz of bench evidence"
    ),
    "predict": PublishedForm(
        type="bench.predict.document:PredictDocument",
        met="bench predict --json",
        mode="serialization",
    ),
    "compare": PublishedForm(
        type="bench.compare.compare_text:CompareDocument",
        met="bench compare --json",
        mode="serialization",
    ),
    "diff": PublishedForm(
        type="bench.diff.diff_document:DiffDocument", met="bench diff --json", mode="serialization"
    ),
}


@click.command()
@click.argument("name", type=OneOf(list(FORMS)), required=False, metavar="[NAME]")
def schema(name: str | None) -> None:
    """Print the form NAME of a file or document as JSON Schema (draft 2020-12).

    Without NAME the forms are listed.
    """
    from bench.schema.schemas import forms_text, schema_text  # loads pydantic, which help must not

    click.echo(forms_text(FORMS) if name is None else schema_text(FORMS[name]))
