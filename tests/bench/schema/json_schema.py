"""A reader of JSON Schema (draft 2020-12) that knows the keywords which the schemas here use.

It shares no code with pydantic, which makes them, and refuses a keyword that it does not know.
"""

import re
from collections.abc import Iterator
from typing import Any

SAID = {"title", "description", "default", "discriminator", "$defs", "$schema"}
"""Keywords that forbid nothing."""

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}

BOUNDS: dict[str, tuple[str, Any]] = {
    "minimum": ("number", lambda said, value: value >= said),
    "maximum": ("number", lambda said, value: value <= said),
    "exclusiveMinimum": ("number", lambda said, value: value > said),
    "exclusiveMaximum": ("number", lambda said, value: value < said),
    "minLength": ("string", lambda said, value: len(value) >= said),
    "maxLength": ("string", lambda said, value: len(value) <= said),
    "pattern": ("string", lambda said, value: re.search(said, value) is not None),
    "minItems": ("array", lambda said, value: len(value) >= said),
    "maxItems": ("array", lambda said, value: len(value) <= said),
    "minProperties": ("object", lambda said, value: len(value) >= said),
    "required": ("object", lambda said, value: set(said) <= set(value)),
}
"""Keywords that say something of values of one type, and nothing of any other."""

INSIDE = {"properties", "additionalProperties", "items", "prefixItems"}


def is_of(kind: str, value: Any) -> bool:
    """True if a value is of that type; a boolean is no number."""
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def problems(schema: Any, value: Any, root: dict[str, Any], place: str = "$") -> list[str]:
    """The places and keywords at which a value is not as its schema says."""
    if isinstance(schema, bool):
        return [] if schema else [f"{place}: nothing may be here"]
    own = [
        f"{place}: {name}" for name, said in schema.items() if not _holds(name, said, value, root)
    ]
    inside = [
        found
        for form, part, key in _parts(schema, value)
        for found in problems(form, part, root, f"{place}.{key}")
    ]
    return own + inside


def _holds(keyword: str, said: Any, value: Any, root: dict[str, Any]) -> bool:
    """True if a value is as one keyword says. Raises `KeyError` for one that is not known here."""

    def count(forms: list[Any]) -> int:
        return sum(not problems(form, value, root) for form in forms)

    match keyword:
        case "type":
            return is_of(said, value)
        case "const":
            return value == said and type(value) is type(said)
        case "enum":
            return value in said
        case "$ref":
            return not problems(root["$defs"][said.removeprefix("#/$defs/")], value, root)
        case "anyOf":
            return count(said) > 0
        case "oneOf":
            return count(said) == 1
        case "propertyNames":
            return not isinstance(value, dict) or not any(problems(said, k, root) for k in value)
    if keyword in SAID | INSIDE:
        return True
    kind, check = BOUNDS[keyword]
    return not is_of(kind, value) or check(said, value)


def _parts(schema: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any, object]]:
    """What lies inside a value, each with its own schema and its key or number."""
    if isinstance(value, dict):
        named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from ((named.get(key, others), part, key) for key, part in value.items())
    if isinstance(value, list):
        first, others = schema.get("prefixItems", []), schema.get("items", True)
        forms = [*first, *[others] * len(value)]
        yield from ((forms[number], part, number) for number, part in enumerate(value))
