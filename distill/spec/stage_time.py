"""The time of a stage and of a chain, from the rates of a profile. Pure.

Counted are updates, the validation after each epoch, and caching a teacher's logits. Not counted:
the start and the input of images, saving, the test at the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from distill.base.units import duration
from distill.spec.candidate import StageName
from distill.spec.catalog import DatasetInfo
from distill.spec.profile import Choice, Profile

NOT_COUNTED = "start, input, saving and the test at the end"


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """Seconds of all updates of a stage, of its validations, of caching its teacher's logits."""

    update_seconds: float
    validation_seconds: float
    caching_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the whole stage."""
        return self.update_seconds + self.validation_seconds + self.caching_seconds


def stage_time(choice: Choice, epochs: int, data: DatasetInfo) -> StageTime | None:
    """The time of a stage under a profile's choice; `None` where its rate is only a bound."""
    predicted = choice.predicted_timing
    if predicted is None or choice.images_per_second is None:
        return None
    views, cached_per_second = (
        choice.teacher_views or 0,
        choice.caching and choice.caching.images_per_second,
    )
    validated = predicted.evaluated_per_second
    return StageTime(
        update_seconds=epochs * data.train_images / choice.images_per_second,
        validation_seconds=epochs * data.validation_images / validated if validated else 0.0,
        caching_seconds=views * data.train_images / (cached_per_second or inf),
    )


def stage_line(choice: Choice | None, epochs: int, data: DatasetInfo, card: str) -> str | None:
    """What the whole stage is expected to take on the profile's card, where that is known."""
    time = None if choice is None else stage_time(choice, epochs, data)
    if choice is None or time is None:
        return None
    source = "updates measured on" if choice.source == "measured" else "predicted for"
    return (
        f"the whole stage takes {rough(time.seconds)} ({source} {card}); not counted: {NOT_COUNTED}"
    )


def rough(seconds: float) -> str:
    """A predicted time, no more exact than it is: `about 5 h 40 min`, `about 3 min`."""
    minutes = seconds / 60
    step = 10 if minutes >= 60 else 1
    if minutes < 1:
        return "less than a minute"
    return f"about {duration(60 * step * round(minutes / step)).removesuffix(' 00 s')}"


def chain_lines(profile: Profile, epochs: Mapping[StageName, int]) -> list[str]:
    """The time of each stage of a profile and of them all; none where it is not known."""
    known = [choice for choice in profile.choices if choice.stage_seconds is not None]
    if len(known) < len(profile.choices):
        return []
    total = sum(choice.stage_seconds or 0.0 for choice in known)
    stages = "; ".join(
        f"{choice.stage} {rough(choice.stage_seconds or 0.0).removeprefix('about ')}, "
        f"{epochs[choice.stage]} epochs"
        for choice in known
    )
    return [
        f"This chain on {profile.target.title}: {rough(total)} ({_source(profile)})",
        f"  {stages}",
        f"  {_constants(profile)}; not counted: {NOT_COUNTED}",
    ]


def _source(profile: Profile) -> str:
    measured = all(choice.source == "measured" for choice in profile.choices)
    return "updates measured, validation predicted" if measured else "predicted"


def _constants(profile: Profile) -> str:
    timing = profile.choices[0].predicted_timing
    assert timing is not None
    return timing.calibration.words
