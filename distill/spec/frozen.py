"""The base of every model of a file: parts of recipes, profiles and recordings."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A part of a file: unknown keys are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")
