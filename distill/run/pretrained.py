"""Pretrained weights that can't be had are refused before anything is made or loaded.

The hub's client tries for a minute, with a line for each try; whether the hub answers at all is
known within seconds. Fetches nothing.
"""

from huggingface_hub import constants, get_session, try_to_load_from_cache
from timm.models import get_pretrained_cfg

from distill.base.errors import UserError
from distill.spec.candidate import StageName
from distill.step.models import ALIASES

ANSWER_SECONDS = 5.0

FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for in a model's repository."""


def check_fetchable(stage: StageName, model: str) -> None:
    """Refuse a model whose pretrained weights are not in the cache while the hub can't be reached.

    What timm gets from elsewhere, or has no weights of, is left to timm.
    """
    config = get_pretrained_cfg(ALIASES.get(model, model), allow_unregistered=True)
    repository = getattr(config, "hf_hub_id", None)
    if not repository or _is_cached(repository):
        return
    reason = _why_unreachable()
    if reason is not None:
        raise UserError(
            f"The pretrained weights of {stage} ({model}) are not in the cache, and "
            f"{constants.ENDPOINT} can't be reached ({reason}). Name a file of them with --weights "
            f"{stage}=FILE, use --no-pretrained, connect to the network once, or point HF_HOME at "
            "a cache that has them."
        )


def _is_cached(repository: str) -> bool:
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in FILES)


def _why_unreachable() -> str | None:
    """Why the hub does not answer, in a few words; any answer is one."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_SECONDS)
    except Exception as error:  # noqa: BLE001 - of whichever library the client is made with
        return " ".join(str(error).split())[:100] or type(error).__name__
    return None
