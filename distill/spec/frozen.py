"""The base of every model of a file: parts of recipes, profiles and recordings."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A part of a file: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def unsaid(value: object) -> bool:
    """True for the value of a key that nobody gave.

    For `Field(exclude_if=unsaid)`: a key that came later is written only where it is used, so that
    a recipe without it keeps its hash, and its runs and profiles.
    """
    return value is None or value is False
