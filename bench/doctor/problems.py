"""Problems of a machine for this work, each with its cure. Pure.

From facts to problems; `facts` gathers the facts. What could not be found out is
`None` and no problem by itself, except where work depends on it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from distill.base.units import GIB, MIB, bytes_text
from distill.device.nvml import Holders
from distill.report.tables import as_text

Place = Literal["machine", "container", "WSL2"]
Nvml = Literal["answers", "no library", "no driver", "no permission", "mismatch", "no device"]

DRIVER_FOR_CUDA = {12: "525", 13: "580"}
"""The first driver branch that runs programs built for a major release of CUDA (NVIDIA's table of
minor version compatibility)."""

OLDEST_CAPABILITY = (7, 5)
BUSY_BYTES = 512 * MIB
DISK_BYTES = 5 * GIB


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder that is written to, and what is free there."""

    name: str
    writable: bool
    free_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The machine as it was found; `None` is not known or not there."""

    place: Place
    nvml: Nvml
    nvml_words: str
    driver: str | None
    driver_cuda: tuple[int, int] | None
    torch: str | None
    torch_cuda: str | None
    visible_devices: str | None
    card: str | None = None
    compute_capability: tuple[int, int] | None = None
    card_total_bytes: int | None = None
    card_used_bytes: int | None = None
    holders: Holders | None = None
    driver_model: str | None = None
    torch_sees_cuda: bool | None = None
    torch_words: str | None = None
    folders: tuple[Folder, ...] = ()
    off_lock: tuple[str, ...] = ()
    power_source: str | None = None


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and its cure."""

    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what} {self.cure}"


def problems(facts: Facts) -> list[Problem]:
    """Every problem, the GPU's first."""
    gpu = gpu_problem(facts)
    checks: tuple[Callable[[Facts], Problem | None], ...] = (
        _capability,
        _busy,
        _torch_is_silent,
        _torch_disagrees,
        _versions,
        _power,
    )
    found = [] if gpu is None else [gpu]
    found += [problem for check in checks if (problem := check(facts)) is not None]
    for folder in facts.folders:
        found += _folder_problems(folder)
    return found


def gpu_problem(facts: Facts) -> Problem | None:
    """Why no GPU can be used, if none can: the one thing that an entry point warns of."""
    if facts.visible_devices is not None and facts.visible_devices.strip() in ("", "-1"):
        return Problem(
            f"CUDA_VISIBLE_DEVICES is {facts.visible_devices!r}, which hides every GPU.",
            "Unset it.",
        )
    if facts.torch_cuda is None and facts.torch is not None:
        return Problem(
            f"torch {facts.torch} is built without CUDA.", "Install the CUDA build: make setup."
        )
    if facts.nvml != "answers":
        return Problem(*_no_gpu(facts))
    return _old_driver(facts)


def _no_gpu(facts: Facts) -> tuple[str, str]:
    if facts.nvml == "mismatch":
        return (
            "The NVIDIA driver was updated while it was loaded.",
            "Restart the machine; a container has to be started anew after that.",
        )
    if facts.nvml == "no permission":
        return (
            "The NVIDIA driver refuses this user.",
            "Give yourself access to /dev/nvidia*, usually by joining the group video.",
        )
    if facts.place == "container":
        return (
            "No GPU is visible in this container.",
            "If the host has one, install the NVIDIA Container Toolkit there and start with "
            "`--gpus all` (docker compose: services bench and distill). Without one, use bench-cpu "
            "and distill-cpu, or `--device predict` and `--device cpu`.",
        )
    if facts.place == "WSL2":
        return (
            "No GPU is visible in WSL2.",
            "Install NVIDIA's driver in Windows (none inside WSL), run `wsl --update`, and start "
            "WSL anew.",
        )
    return (
        f"No NVIDIA GPU is usable here ({facts.nvml_words}).",
        "If there is one, install NVIDIA's driver and check `nvidia-smi`. Without one, "
        "`--device predict` and `--device cpu` work.",
    )


def _old_driver(facts: Facts) -> Problem | None:
    if facts.driver_cuda is None or facts.torch_cuda is None:
        return None
    wanted = int(facts.torch_cuda.split(".")[0])
    if facts.driver_cuda[0] >= wanted:
        return None
    branch = DRIVER_FOR_CUDA.get(wanted)
    newer = f"driver {branch} or later" if branch else "a newer driver"
    where = {"WSL2": " in Windows", "container": " on the host"}.get(facts.place, "")
    have = ".".join(str(part) for part in facts.driver_cuda)
    return Problem(
        f"Driver {facts.driver} runs CUDA up to {have}; this torch needs {facts.torch_cuda}.",
        f"Install {newer}{where}, or a torch built for CUDA {facts.driver_cuda[0]}.",
    )


def _capability(facts: Facts) -> Problem | None:
    capability = facts.compute_capability
    if capability is None or capability >= OLDEST_CAPABILITY:
        return None
    have, oldest = (".".join(map(str, pair)) for pair in (capability, OLDEST_CAPABILITY))
    return Problem(
        f"{facts.card} has compute capability {have}; torch's CUDA 13 builds begin at {oldest}.",
        "Use a card from the RTX 20 series on, or predict for one: --device predict.",
    )


def _busy(facts: Facts) -> Problem | None:
    used = facts.card_used_bytes
    if used is None or used < BUSY_BYTES:
        return None
    processes = (facts.holders.processes if facts.holders else None) or ()
    named = ", ".join(
        f"{holder.name or 'a process'} ({bytes_text(holder.used_bytes)})" for holder in processes
    )
    return Problem(
        f"{bytes_text(used)} of the card are in use already"
        + (f", by {named}." if named else "; by whom is not told here."),
        "End what is not needed; a probe takes what is left for the card's size.",
    )


def _torch_is_silent(facts: Facts) -> Problem | None:
    if facts.torch_sees_cuda is not None or facts.torch_words is None:
        return None
    return Problem(
        f"torch can't be asked ({facts.torch_words}).",
        "Install what the lock says: make setup.",
    )


def _torch_disagrees(facts: Facts) -> Problem | None:
    if gpu_problem(facts) is not None or facts.torch_sees_cuda is not False:
        return None
    words = f" ({facts.torch_words})" if facts.torch_words else ""
    return Problem(
        f"The driver sees {facts.card or 'a GPU'}, torch does not{words}.",
        "Restart the machine or the container; if it stays, run `make setup` again.",
    )


def _versions(facts: Facts) -> Problem | None:
    if not facts.off_lock:
        return None
    return Problem(
        f"Not the locked versions: {', '.join(facts.off_lock)}.",
        "Run `make setup`; predictions hold for the locked ones.",
    )


def _power(facts: Facts) -> Problem | None:
    if facts.power_source != "battery":
        return None
    return Problem("The machine runs on its battery.", "Plug it in before anything is timed.")


def _folder_problems(folder: Folder) -> list[Problem]:
    if not folder.writable:
        return [Problem(f"{folder.name} cannot be written.", "Give yourself write access to it.")]
    if folder.free_bytes is not None and folder.free_bytes < DISK_BYTES:
        return [
            Problem(
                f"{folder.name} has {bytes_text(folder.free_bytes)} free.",
                f"Make room: data, checkpoints and weights take {bytes_text(DISK_BYTES)}.",
            )
        ]
    return []


def doctor_text(facts: Facts, *, as_json: bool) -> str:
    """The facts and the problems, for people or as one JSON document."""
    found = problems(facts)
    if as_json:
        document = {"facts": asdict(facts), "problems": [asdict(problem) for problem in found]}
        return json.dumps(document, indent=2)
    table = as_text([{"what": what, "found": words} for what, words in _lines(facts)])
    if not found:
        return f"{table}\n\nNo problem found."
    return "\n".join([table, "", *(f"Problem: {one.what}\n   Cure: {one.cure}" for one in found)])


def _lines(facts: Facts) -> list[tuple[str, str]]:
    capability = facts.compute_capability
    cuda = facts.driver_cuda
    lines = [
        ("place", facts.place + (f", {facts.driver_model}" if facts.driver_model else "")),
        ("driver", facts.driver or f"– ({facts.nvml_words})"),
        ("CUDA of the driver", ".".join(map(str, cuda)) if cuda else "–"),
        ("torch", f"{facts.torch or '–'}, CUDA {facts.torch_cuda or '–'}"),
        ("card", facts.card or "–"),
        ("compute capability", ".".join(map(str, capability)) if capability else "–"),
        ("memory in use", f"{bytes_text(facts.card_used_bytes)} of "
                          f"{bytes_text(facts.card_total_bytes)}"),
        ("power", facts.power_source or "not told"),
    ]  # fmt: skip
    lines += [(folder.name, f"{bytes_text(folder.free_bytes)} free") for folder in facts.folders]
    return lines
