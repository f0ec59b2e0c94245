"""Documents as typed values: every field is checked before any of a file is used.

Nothing is turned into another type (pydantic's strict mode, as for JSON). `base.reading` has
bounded size and depth before; what is found wrong is one sentence.
"""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from distill.base.errors import UserError, in_short
from distill.base.nearest import did_you_mean
from distill.base.reading import MOST_OF_A_PLACE, read_json

T = TypeVar("T")

_NO_MODELS = (type(None), Ellipsis)

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 40
_SHORT.maxlevel = 2


def validated(kind: Any, document: Any) -> Any:
    """The document as a `kind`: a model, a dataclass, or any type that pydantic knows.

    Raises pydantic's `ValidationError`.
    """
    return _adapter(kind).validate_json(json.dumps(document, default=str), strict=True)


def document_as(kind: type[T], document: Any, subject: str, cure: str = "") -> T:
    """The document as a `kind`. Raises `UserError`, in which it is called `subject`."""
    try:
        found: T = validated(kind, document)
    except ValidationError as error:
        raise UserError(f"{subject}: {first_problem(error)} {cure}".rstrip()) from error
    return found


def read_as(kind: type[T], path: Path, *, cure: str = "") -> T:
    """The JSON file as a `kind`. Raises `UserError` for what is none, with a cure."""
    document = read_json(path, unreadable_cure=cure, damaged_cure=cure)
    return document_as(kind, document, str(path), cure)


def first_problem(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, as one sentence with the value in it."""
    problem, *others = error.errors(include_url=False)
    return _sentence(problem, others, None)


def reason_of(error: Exception) -> str:
    """Why a file could not be read, as a few words without a full stop."""
    if isinstance(error, ValidationError):
        return first_problem(error).rstrip(".")
    words = getattr(error, "strerror", None) or in_short(error) or type(error).__name__
    return str(words).rstrip(".")


def all_problems(error: ValidationError, kind: type[BaseModel]) -> list[str]:
    """All that pydantic found wrong with a `kind`, a sentence each, near keys named."""
    left, found = error.errors(include_url=False), []
    while left:
        problem, *left = left
        found.append(_sentence(problem, left, kind))
        left = [other for other in left if not _of_one_value(problem, other)]
    return found


def _sentence(
    problem: ErrorDetails, others: Sequence[ErrorDetails], kind: type[BaseModel] | None
) -> str:
    place = problem["loc"]
    # of a number or a word (`int | Literal[…]`) pydantic tells both, each in a place of its own
    word = next(
        (o for o in others if o["type"] == "literal_error" and _of_one_value(o, problem)), None
    )
    if word is not None:
        place = place[:-1]
    where = ".".join(str(part) for part in place) or "the document"
    if len(where) > MOST_OF_A_PLACE:
        where = where[:MOST_OF_A_PLACE] + "…"
    if problem["type"] == "missing":
        return f"{where} is missing."
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = "" if kind is None else did_you_mean(str(place[-1]), _keys_at(kind, place[:-1]))
        return f"{where} is not a known key.{near}"
    words = problem["ctx"]["error"] if problem["type"] == "value_error" else problem["msg"]
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):  # of the whole
        return f"{where}: {words}."
    if word is not None:
        words += f", or {word['ctx']['expected']}"
    near = ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        near = did_you_mean(problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    return f"{where} = {_SHORT.repr(problem['input'])} is not possible: {words}.{near}"


def _keys_at(kind: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The keys that a document of that kind may have in that place."""
    for part in place:
        if isinstance(part, str):
            kind = _model_in(kind.model_fields[part].annotation)
    return list(kind.model_fields)


def _model_in(annotation: Any) -> type[BaseModel]:
    """The model in `Model`, `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_model_in(part) for part in get_args(annotation) if part not in _NO_MODELS)


def _of_one_value(one: ErrorDetails, other: ErrorDetails) -> bool:
    """True if two problems are of one value, each of another type that it may have."""
    kinds = {one["type"], other["type"]}
    return "literal_error" in kinds and len(kinds) > 1 and _same_place(one, other)


def _same_place(one: ErrorDetails, other: ErrorDetails) -> bool:
    return one["loc"][:-1] == other["loc"][:-1] and one["input"] == other["input"]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
