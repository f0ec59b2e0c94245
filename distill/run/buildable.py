"""A recipe's models are tried without memory, so that one that can't be is refused first."""

from distill.base.errors import UserError
from distill.spec.recipe import Recipe
from distill.step.meta_forward import fewest_images
from distill.step.models import check_model_name


def check_buildable(recipe: Recipe) -> None:
    """Refuse, as a `UserError`, a model that timm does not know or that can't take the images."""
    for stage in recipe.stage:
        try:
            check_model_name(stage.model.name)
            fewest_images(recipe.candidate(stage.name))
        except UserError as error:
            raise UserError(f"Stage {stage.name}: {error}") from error
