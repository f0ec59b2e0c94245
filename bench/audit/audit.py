"""Running the audit: the predictor and the parameter counts that its rules ask for."""

from bench.audit.rules import Auditor, Finding
from bench.card.targets import target_named
from bench.predict.claims import load_claims
from distill.spec.recipe import Recipe


def find_all(recipe: Recipe) -> list[Finding]:
    """The findings for every claim, for the card that the write-up names."""
    from bench.simulate.predictor import Predictor
    from distill.device.visible_devices import hide_devices

    hide_devices()
    predictor = Predictor(target_named("rtx4050"), "expandable")
    auditor = Auditor(recipe, predictor.predict, _parameters)
    return [auditor.find(claim) for claim in load_claims()]


def _parameters(model: str, classes: int) -> int:
    """How many numbers a model learns; built without them."""
    import torch

    from distill.step.models import get_vit_model, parameter_count

    with torch.device("meta"):
        return parameter_count(get_vit_model(model, classes))
