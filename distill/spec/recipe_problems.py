"""What is wrong with a recipe's document beyond the type of each value, all of it at once.

Looks at the document as it was read, so that one wrong value hides no other.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from distill.base.errors import UserError
from distill.spec.candidate import STAGES
from distill.spec.catalog import dataset_info
from distill.spec.image_source import is_own
from distill.spec.training import Training
from distill.spec.validated import all_problems

MOST_TOLD = 12
"""How many problems a refusal lists."""


def refusal(name: str, problems: Sequence[str]) -> UserError:
    """One problem as a sentence, several as a list, in which the recipe is called `name`."""
    if len(problems) == 1:
        return UserError(f"Recipe {name}: {problems[0]}")
    lines = [f"Recipe {name} has {len(problems)} problems:", *problems[:MOST_TOLD]]
    if len(problems) > MOST_TOLD:
        lines.append(f"and {len(problems) - MOST_TOLD} more.")
    return UserError(*lines)


def stage_problems(document: Any) -> list[str]:
    """The values that stages lay over the recipe's training, and the links between stages."""
    found = document.get("stage") if isinstance(document, dict) else None
    stages = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    values = [problem for stage in stages for problem in _training_problems(stage)]
    return [*values, *_link_problems(stages)]


def dataset_problems(document: Any) -> list[str]:
    """The name of the data set, where it is none and not that of images of the user's own."""
    name = document.get("dataset") if isinstance(document, dict) else None
    if not isinstance(name, str) or is_own(name):
        return []
    try:
        dataset_info(name, image_size=1)
    except UserError as error:
        return [f"dataset: {error}"]
    return []


def _training_problems(stage: dict[str, Any]) -> list[str]:
    """Each value by itself, as if the recipe had all that a training needs."""
    own = stage.get("training", {})
    if not isinstance(own, dict):
        return []  # told with the types of all values
    values: dict[str, Any] = {"epochs": 1, "effective_batch": 1, "learning_rate": 1.0} | own
    if values["epochs"] is None:  # as many as the recipe's weights ask for
        values["epochs"] = 1
    try:
        Training.model_validate(values, strict=True)
    except ValidationError as error:
        where = f"stage {stage.get('name')}: training."
        return [where + problem for problem in all_problems(error, Training)]
    return []


def _link_problems(stages: Sequence[dict[str, Any]]) -> list[str]:
    """Each stage comes once, and is taught by a stage that comes before it.

    A name that no stage can have is told with the types of all values.
    """
    seen: list[str] = []
    problems = []
    for stage in stages:
        name, taught_by = stage.get("name"), stage.get("taught_by")
        if name not in STAGES or taught_by not in (*STAGES, None):
            continue
        if name in seen:
            problems.append(f"it has stage {name} twice.")
        if taught_by is not None and stage.get("own_teacher") is not None:
            problems.append(
                f"stage {name} is taught by {taught_by} and has its own_teacher. Leave one of "
                "them out."
            )
        if taught_by is not None and taught_by not in seen:
            before = ", ".join(seen) or "nothing"
            problems.append(
                f"stage {name} is taught by {taught_by}, which does not come before it (before "
                f"it: {before})."
            )
        seen.append(name)
    return problems
