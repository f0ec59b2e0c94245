"""JSON Schema of a published form, made by pydantic from the type that reads or writes it."""

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter

from bench.compare.baseline import SCHEMA as BASELINE_SCHEMA
from bench.schema.command import PublishedForm
from bench.trials.journal import SCHEMA as TRIAL_SCHEMA
from distill.report.tables import Row, as_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"

NUMBERED = {
    "bench.trials.trial:Trial": TRIAL_SCHEMA,
    "bench.compare.baseline:Baseline": BASELINE_SCHEMA,
}
"""Forms whose key `schema` has its one number not from its type but from its reader."""


def schema_of(form: PublishedForm) -> dict[str, Any]:
    """The schema of a form. What pydantic's validators check beyond it stays with the reader."""
    module, _, name = form.type.partition(":")
    kind = TypeAdapter(getattr(import_module(module), name))
    made: dict[str, Any] = {"$schema": DIALECT, **kind.json_schema(mode=form.mode)}
    if form.type in NUMBERED:
        made["properties"] = {"schema": {"const": NUMBERED[form.type]}} | {
            key: value for key, value in made["properties"].items() if key != "schema"
        }
        made["required"] = sorted({"schema", *made["required"]})
    return made


def schema_text(form: PublishedForm) -> str:
    """The schema as one JSON document."""
    return json.dumps(schema_of(form), indent=2, ensure_ascii=False)


def forms_text(forms: Mapping[str, PublishedForm]) -> str:
    """Every form with where it is met, and what to do next."""
    rows: list[Row] = [{"name": name, "is met as": form.met} for name, form in forms.items()]
    return as_text(rows) + "\n\nNext: bench schema profile > profile.schema.json"
