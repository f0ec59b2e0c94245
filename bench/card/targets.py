"""Cards that a number can be for: of the table, in a file, of a size, or the one that is here."""

import math
import re
from pathlib import Path

from pydantic import ValidationError

from bench.card.budget import LEAST_SHARE_SEEN
from bench.card.cards import FLASH_FROM, Card, known_cards, nearest
from bench.card.detect import CardFacts, detect_card
from distill.base.errors import NoDeviceError, UserError
from distill.base.nearest import did_you_mean
from distill.base.reading import MOST_TOML_BYTES, parsed_json, parsed_toml, read_text
from distill.base.units import GIB, bytes_text, mib
from distill.spec.profile import Target
from distill.spec.validated import first_problem, validated

DEFAULT = "rtx4050"
"""The card that numbers are for where neither a card nor a size is named."""

FILE_KEYS = "title, box_gib, compute_capability = [8, 9], multiprocessors"
OPTIONAL_KEYS = "total_mib, fp32_tflops, half_tflops, bandwidth_gbs"


def target_names() -> list[str]:
    """The cards that are known by name."""
    return list(known_cards())


def target_named(name: str) -> Target:
    """A card by name, or from a file: TOML as `cards.toml` has it, or JSON: a profile, its target.

    Raises `UserError` for a name that is not in the table and a file that holds no card.
    """
    if name.endswith((".json", ".toml")):
        return _target_in(Path(name))
    known = known_cards()
    short = "-".join(name.lower().split())
    if short not in known:
        titled = [one for one, card in known.items() if short_name(card.title) == short]
        near = f" Did you mean {titled[0]}?" if titled else did_you_mean(short, known)
        raise UserError(
            f"Unknown target {name!r}.{near} All: bench cards; or name a .toml file with one."
        )
    return known[short].target(short)


def target_of_size(vram_gib: float | None) -> Target:
    """The card that numbers are for where only the size on the box is named, or nothing.

    The first known one of that size, else one that is assumed: like the known card nearest in
    size that has bf16, with as much memory as was asked for.
    """
    if vram_gib is None:
        return target_named(DEFAULT)
    for name, card in known_cards().items():
        if card.box_gib == vram_gib:
            return card.target(name)
    modern = [card for card in known_cards().values() if card.compute_capability >= FLASH_FROM]
    like = min(modern, key=lambda card: abs(math.log(card.box_gib / vram_gib)))
    title = (
        f"a card of {vram_gib:g} GiB, assumed like {like.title}: "
        f"{like.multiprocessors} multiprocessors"
    )
    described = like.model_copy(update={"title": title, "box_gib": vram_gib, "total_mib": None})
    return described.target(f"{vram_gib:g}gb")


def target_like(card: CardFacts) -> Target:
    """The card that is there, with the peak rates of the known card nearest to it.

    It goes by that one's name if it is the same model, else by its own.
    """
    same = [
        name
        for name, known in known_cards().items()
        if _model(known.title) == _model(card.name)
        and LEAST_SHARE_SEEN < card.total_bytes / (known.box_gib * GIB) <= 1.01
    ]
    if same:
        return card.as_target(same[0], like=target_named(same[0]))
    like = nearest(card.compute_capability, card.multiprocessors, card.total_bytes)
    own = short_name(card.name)
    return card.as_target(own, like=like.target(own))


def target_asked(name: str | None, vram_gib: float | None = None) -> Target:
    """A card by name or file, with `auto` the one that is here, with `None` one of that size.

    Raises `NoDeviceError` for `auto` where there is none, `UserError` for a card that has less
    than `vram_gib`.
    """
    if name is None:
        return target_of_size(vram_gib)
    if name != "auto":
        target = target_named(name)
    else:
        card = detect_card()
        if card is None:
            raise NoDeviceError("--target auto needs a GPU, and none is here. Name a card instead.")
        target = target_like(card)
    check_size(target, vram_gib)
    return target


def check_size(target: Target, vram_gib: float | None) -> None:
    """Refuse a size that the card does not have. Of a larger card a part may be asked for."""
    if vram_gib is not None and LEAST_SHARE_SEEN * vram_gib * GIB > target.total_bytes:
        raise UserError(
            f"--vram {vram_gib:g} is more than {target.title} has, of which PyTorch sees "
            f"{mib(target.total_bytes)} MiB. Give its own size, or another --target."
        )


def is_part_of(target: Target, vram_gib: float) -> bool:
    """True if so much is only a part of the card, which then stands in for a smaller one."""
    return vram_gib * GIB < target.total_bytes


def short_name(device: str) -> str:
    """`NVIDIA GeForce RTX 4050 Laptop GPU` as `rtx-4050-laptop`."""
    words = re.findall(r"[a-z0-9]+", device.lower())
    return "-".join(word for word in words if word not in ("nvidia", "geforce", "gpu"))


def is_native(card: CardFacts, nominal_gib: float) -> bool:
    """Tell whether the card is itself one of that size, or smaller; else it imitates one."""
    return card.total_bytes <= nominal_gib * GIB


def target_line(target: Target) -> str:
    """The card that numbers are for."""
    major, minor = target.compute_capability
    return f"{target.title} (compute capability {major}.{minor}, {bytes_text(target.total_bytes)})"


def _model(device: str) -> str:
    """The model alone: no maker, no memory, no socket."""
    name = re.sub(r"\b\d+\s*gb\b|\bhbm\d?e?\b|\bsxm\d?\b|\bpcie\b|\btesla\b", " ", device.lower())
    return short_name(name)


def _target_in(path: Path) -> Target:
    """The card in a file. Raises `UserError` for what can't be read or describes none."""
    text = read_text(path, "target", most_bytes=MOST_TOML_BYTES)
    try:
        if path.suffix == ".json":
            document = parsed_json(text)
            if isinstance(document, dict) and "target" in document:  # a whole profile
                document = document["target"]
            target: Target = validated(Target, document)
            return target
        card: Card = validated(Card, parsed_toml(text))
        return card.target(short_name(path.stem) or "card")
    except ValidationError as error:
        raise UserError(f"{path} is no target: {first_problem(error)}{_keys(path)}") from error
    except ValueError as error:
        raise UserError(f"Target {path} {error}.") from error


def _keys(path: Path) -> str:
    if path.suffix == ".json":
        return ""
    return f" A card has {FILE_KEYS}; it may have {OPTIONAL_KEYS}."
