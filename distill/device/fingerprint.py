"""A profile's fingerprint held against this machine. Pure.

A predicted profile knows no machine and is not held against one. A verified profile holds for
one card, driver branch, torch, timm, recipe and source of the step; anything else is told, and
refused unless the user insists.
"""

from dataclasses import dataclass
from importlib.metadata import version

from distill.base.digest import source_digest
from distill.base.errors import ProfileMismatch
from distill.base.units import bytes_text
from distill.spec.profile import Profile
from distill.spec.recipe import Recipe

UPDATE_SOURCES = (
    *("distill.step", "distill.spec.pins"),
    *("distill.data.batches", "distill.data.mixing"),
)
"""What decides the bytes of an update: the step, what is pinned, and what a batch is made of."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine, as far as numbers of memory depend on it. No card: `card` is `None`."""

    torch: str
    timm: str
    step: str
    card: str | None = None
    card_total_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    driver: str | None = None


def step_digest() -> str:
    """A hash of the source that decides what an update allocates."""
    return source_digest(UPDATE_SOURCES)


def machine_without_card() -> Machine:
    """This machine, its device left out."""
    return Machine(torch=version("torch"), timm=version("timm"), step=step_digest())


def machine_differences(profile: Profile, machine: Machine, recipe: Recipe) -> list[str]:
    """The differences between the machine of a profile and this one, a few words each."""
    there = profile.fingerprint
    capability = (_dotted(there.compute_capability), _dotted(machine.compute_capability))
    mark = profile.recipe
    pairs: list[tuple[str, object, object]] = [
        ("card", there.card, machine.card or "none"),
        ("memory", _size(there.card_total_bytes), _size(machine.card_total_bytes)),
        ("compute capability", *capability),
        ("driver branch", branch(there.driver), branch(machine.driver)),
        ("torch", release(there.torch), release(machine.torch)),
        ("timm", there.timm, machine.timm),
        ("recipe", f"{mark.name} {mark.digest}", f"{recipe.name} {recipe.digest()}"),
        ("source of the step", there.step, machine.step),
    ]
    if machine.card is None:
        pairs = [pairs[0], *pairs[4:]]
    return [
        f"{what} {in_profile or 'unknown'} there, {here or 'unknown'} here"
        for what, in_profile, here in pairs
        if in_profile != here
    ]


def check(profile: Profile, machine: Machine, recipe: Recipe, *, force: bool) -> list[str]:
    """Refuse a verified profile of another machine; what `force` let pass is returned.

    Raises `ProfileMismatch` with every difference and the cures.
    """
    if profile.status != "verified":
        return []
    found = machine_differences(profile, machine, recipe)
    if found and not force:
        raise ProfileMismatch(
            f"Profile {profile.name} was verified for another machine: {'; '.join(found)}. "
            "Verify it here with --reverify, insist with --force, or make one: bench probe."
        )
    return found


def branch(driver: str | None) -> str | None:
    """The driver's branch: `580` of `580.95.05`."""
    return None if driver is None else driver.split(".")[0]


def release(torch: str) -> str:
    """The release without the build: `2.11.0` of `2.11.0+cu130`."""
    return torch.split("+")[0]


def _size(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else f"{bytes_text(size_bytes)} ({size_bytes} bytes)"


def _dotted(capability: tuple[int, int] | None) -> str | None:
    return None if capability is None else f"{capability[0]}.{capability[1]}"
