"""The write-up's figures about models and their training, as tables have them beside others."""

from collections.abc import Mapping

from bench.models.model_figures import ModelFigures
from bench.predict.claims import Claim, load_claims
from distill.spec.recipe import Recipe

CLAIMED_ON = "cifar10"
"""The data that its accuracies are of."""

ACCURACIES = {
    "vit_base": "acc.pretrained.teacher",
    "vit_small": "acc.pretrained.assistant",
    "vit_tiny": "acc.pretrained.student",
}
"""Its ViTs go by their stages; the assistant and the student are taught."""


EFFECTS = (
    "effect.checkpointing.memory",
    "effect.checkpointing.time",
    "effect.amp.memory",
    "effect.amp.speed",
)
"""Its figures of what checkpointing and half precision do, for no model in particular."""


class ModelClaims:
    """The write-up's figures; `None` where it has none."""

    def __init__(self) -> None:
        self._claims: Mapping[str, Claim] = {claim.id: claim for claim in load_claims()}

    def parameters(self, figures: ModelFigures) -> float | None:
        """The number of parameters."""
        return self.value(f"params.{figures.name}")

    def half_megabytes(self, figures: ModelFigures) -> float | None:
        """MB of the weights in fp16."""
        return self.value(f"fp16_size.{figures.name}")

    def accuracy(self, figures: ModelFigures, recipe: Recipe) -> float | None:
        """The share that is right on the recipe's data, where it claims of that."""
        if recipe.dataset != CLAIMED_ON:
            return None
        return self.value(ACCURACIES.get(figures.name, f"acc.{figures.name}"))

    def share(self, name: str) -> str:
        """A fraction in percent."""
        return f"{100 * (self.value(name) or 0):g} %"

    def value(self, name: str) -> float | None:
        """The figure of that id, `None` where there is none."""
        claim = self._claims.get(name)
        return None if claim is None else claim.middle
