"""The CUDA device that is here, asked in a child process: the asker never touches CUDA."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from bench.measure.isolate import last_words, run_document, spawned
from distill.base.errors import NoDeviceError, RunFailed
from distill.device.driver import driver_device_exists
from distill.device.nvml import driver_version
from distill.spec.profile import Target


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """A device as PyTorch and its driver describe it. Bytes; `None` is not known.

    `context_bytes` is what the asking child's own context took once libraries and kernels were
    loaded; where NVML does not answer, all that was in use, which can only be more.
    `others_bytes` is what was in use before, `free_bytes` what is free beside that context.
    `uuid` is for asking NVML about the same card; it names a machine, so no file has it.
    """

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    total_bytes: int
    free_bytes: int
    context_bytes: int
    others_bytes: int | None = None
    driver: str | None
    uuid: str | None = None

    def as_target(self, name: str, *, like: Target) -> Target:
        """This card as a target, with the peak rates of the nearest known one."""
        return like.model_copy(
            update={
                "name": name,
                "title": self.name,
                "compute_capability": self.compute_capability,
                "multiprocessors": self.multiprocessors,
                "threads_per_multiprocessor": self.threads_per_multiprocessor,
                "total_bytes": self.total_bytes,
            }
        )


ASK_SECONDS = 300.0


def detect_card() -> CardFacts | None:
    """The first CUDA device, or `None`. Raises `RunFailed` when the asking itself fails."""
    if driver_version() is None and not driver_device_exists():
        return None
    ended, document = run_document({}, spawned("bench.card.card_child"), ASK_SECONDS)
    if ended.status is None:
        raise RunFailed(
            f"The CUDA device did not answer within {ASK_SECONDS:g} s. bench doctor says more; "
            "--device predict needs no device."
        )
    if ended.status != 0 or document is None:
        last = last_words(ended.stderr) or f"exit status {ended.status}"
        raise RunFailed(
            f"The CUDA device can't be used: {last}. bench doctor says more; --device predict "
            "needs no device."
        )
    return TypeAdapter(CardFacts | None).validate_python(document["card"])


def wanted_card(device: str) -> CardFacts | None:
    """The device to measure on for `--device auto | cuda | cpu | predict`, if there is one.

    Raises `NoDeviceError` when `cuda` is demanded and there is none.
    """
    if device in ("cpu", "predict"):
        return None
    card = detect_card()
    if card is None and device == "cuda":
        raise NoDeviceError("No CUDA device here. Use --device predict, or run where there is one.")
    return card
