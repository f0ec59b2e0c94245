"""Facts of the machine, as far as it can be asked without touching CUDA in this process.

`quick_facts` reads NVML and files only and loads no torch; `whole_facts` also asks a child
process what torch sees. What is not told is `None`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pynvml

from bench.doctor.problems import Facts, Folder, Nvml, Place
from distill.device.nvml import driver_version, read_holders, read_state
from distill.device.power import power_source
from distill.spec.pins import is_wsl

LOCKED = ("torch", "torchvision", "timm", "numpy", "nvidia-ml-py", "pydantic", "safetensors")
LOCK = Path(__file__).parents[2] / "requirements.lock"

ASK_TORCH = (
    "import json, torch, warnings\n"
    "with warnings.catch_warnings(record=True) as told:\n"
    "    warnings.simplefilter('always')\n"
    "    sees = torch.cuda.is_available()\n"
    "print(json.dumps([sees, str(told[0].message).split('(')[0].strip() if told else None]))\n"
)


def quick_facts() -> Facts:
    """The facts that an entry point has the time to ask."""
    nvml, words, driver_cuda = _nvml()
    return Facts(
        place=_place(),
        nvml=nvml,
        nvml_words=words,
        driver=driver_version(),
        driver_cuda=driver_cuda,
        torch=_installed("torch"),
        torch_cuda=_torch_cuda(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )


def whole_facts(folders: dict[str, Path]) -> Facts:
    """Everything; `folders` are those that will be written to, by the name to show."""
    facts = quick_facts()
    sees, words = _ask_torch()
    facts = replace(
        facts,
        torch_sees_cuda=sees,
        torch_words=words,
        folders=tuple(_folder(name, path) for name, path in folders.items()),
        off_lock=off_lock(LOCK),
        power_source=power_source(),
    )
    if facts.nvml != "answers":
        return facts
    state = read_state()
    card, capability, model = _card()
    return replace(
        facts,
        card=card,
        compute_capability=capability,
        driver_model=model,
        card_total_bytes=state.total_bytes,
        card_used_bytes=state.used_bytes,
        holders=read_holders(),
    )


def written_folders() -> dict[str, Path]:
    """The folders that this project writes to, by names that tell nothing of the user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    weights = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    return {"this folder": Path.cwd(), "trace cache": cache, "weights": weights}


def off_lock(lock: Path) -> tuple[str, ...]:
    """Packages whose version is not the locked one; none where there is no lock to hold against."""
    if not lock.exists():
        return ()
    pairs = re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock.read_text(encoding="utf-8"), re.M)
    found = []
    for name in LOCKED:
        # more than one where the version of Python decides
        locked = [pinned for package, pinned in pairs if package == name]
        installed = _installed(name)
        if locked and (installed or "").split("+")[0] not in locked:
            found.append(f"{name} {installed or 'missing'} (locked {' or '.join(locked)})")
    return tuple(found)


def _nvml() -> tuple[Nvml, str, tuple[int, int] | None]:
    """NVML's answer: whether it gives one, its words if not, and the CUDA release of the driver."""
    kinds: dict[type[Exception], Nvml] = {
        pynvml.NVMLError_LibraryNotFound: "no library",
        pynvml.NVMLError_DriverNotLoaded: "no driver",
        pynvml.NVMLError_NoPermission: "no permission",
        pynvml.NVMLError_LibRmVersionMismatch: "mismatch",
    }
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return kinds.get(type(error), "no driver"), f"NVML: {error}", None
    try:
        if not pynvml.nvmlDeviceGetCount():
            return "no device", "NVML: no device", None
        number = int(pynvml.nvmlSystemGetCudaDriverVersion())
        return "answers", "", (number // 1000, number % 1000 // 10)
    except pynvml.NVMLError as error:
        return kinds.get(type(error), "no device"), f"NVML: {error}", None
    finally:
        pynvml.nvmlShutdown()


def _card() -> tuple[str | None, tuple[int, int] | None, str | None]:
    """Name, compute capability, and on Windows the driver model."""

    def ask(what: Any, *more: Any) -> Any:
        try:
            return what(*more)
        except pynvml.NVMLError:
            return None

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None, None, None
    try:
        device = ask(pynvml.nvmlDeviceGetHandleByIndex, 0)
        if device is None:
            return None, None, None
        name = ask(pynvml.nvmlDeviceGetName, device)
        capability = ask(pynvml.nvmlDeviceGetCudaComputeCapability, device)
        model = ask(pynvml.nvmlDeviceGetCurrentDriverModel, device)
        words = {0: "WDDM", 1: "TCC", 2: "MCDM"}.get(model) if model is not None else None
        return name, None if capability is None else (capability[0], capability[1]), words
    finally:
        pynvml.nvmlShutdown()


def _place(root: Path = Path("/")) -> Place:
    marks = (root / ".dockerenv", root / "run/.containerenv")
    if any(mark.exists() for mark in marks):
        return "container"
    return "WSL2" if is_wsl(root / "proc/version") else "machine"


def _torch_cuda() -> str | None:
    """The CUDA release that torch was built for, read from a file: importing takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.M)
    return found[1] if found else None


def _ask_torch() -> tuple[bool | None, str | None]:
    """The answer of torch in a child: whether it sees CUDA, and its words; else `None` and why."""
    try:
        child = subprocess.run(
            [sys.executable, "-c", ASK_TORCH],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        sees, words = json.loads(child.stdout)
    except subprocess.TimeoutExpired as error:
        return None, f"no answer within {error.timeout:.0f} s"
    except ValueError:
        last = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
        return None, f"exit status {child.returncode}: {last}"
    return bool(sees), words


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _folder(name: str, path: Path) -> Folder:
    """The folder, or the nearest one above it that exists and would have to take it."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Folder(name=name, writable=writable, free_bytes=_free_bytes(there))


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None
