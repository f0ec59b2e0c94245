"""The machine as it is asked: NVML's own errors at its boundary, files as they lie."""

from pathlib import Path
from typing import Any

import pynvml
import pytest

from bench.doctor import facts as machine
from bench.doctor.facts import off_lock, quick_facts, whole_facts
from bench.doctor.problems import gpu_problem


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A library that answers; what a test puts in raises or replaces an answer."""
    answers: dict[str, Any] = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlSystemGetCudaDriverVersion": 13000,
        "nvmlSystemGetDriverVersion": "580.65.06",
        "nvmlDeviceGetHandleByIndex": "device",
        "nvmlDeviceGetName": "A card",
        "nvmlDeviceGetCudaComputeCapability": (8, 9),
        "nvmlDeviceGetCurrentDriverModel": 0,
    }

    def asked(name: str) -> Any:
        def answer(*_: Any, **__: Any) -> Any:
            if isinstance(answers[name], pynvml.NVMLError):
                raise answers[name]
            return answers[name]

        return answer

    for name in answers:
        monkeypatch.setattr(pynvml, name, asked(name))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return answers


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no library"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "no driver"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "mismatch"),
        (pynvml.NVML_ERROR_UNKNOWN, "no driver"),
    ],
)
def test_why_nvml_does_not_answer_is_kept(nvml: dict[str, Any], code: int, kind: str) -> None:
    nvml["nvmlInit"] = pynvml.NVMLError(code)
    facts = quick_facts()
    assert (facts.nvml, facts.driver, facts.driver_cuda) == (kind, None, None)
    assert facts.nvml_words.startswith("NVML: ") and gpu_problem(facts) is not None


def test_a_driver_without_a_card_is_no_gpu(nvml: dict[str, Any]) -> None:
    nvml["nvmlDeviceGetCount"] = 0
    assert quick_facts().nvml == "no device"


def test_an_older_driver_is_told_from_torchs_own_files(nvml: dict[str, Any]) -> None:
    """Without importing torch: an entry point asks this each time."""
    nvml["nvmlSystemGetCudaDriverVersion"] = 12080
    facts = quick_facts()
    assert facts.driver_cuda == (12, 8) and facts.torch_cuda is not None
    problem = gpu_problem(facts)
    assert problem is not None and "12.8" in problem.what and facts.torch_cuda in problem.what


def test_not_supported_is_none_and_never_zero(
    nvml: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under WSL2: the card answers, most questions about it are refused."""
    refused = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    for name in (
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetGraphicsRunningProcesses",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetPerformanceState",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
    ):

        def refuse(*_: Any, **__: Any) -> Any:
            raise refused

        monkeypatch.setattr(pynvml, name, refuse)
    nvml["nvmlDeviceGetCudaComputeCapability"] = refused
    monkeypatch.setattr(machine, "_ask_torch", lambda: (None, None))
    facts = whole_facts({})
    assert facts.card == "A card" and facts.driver_model == "WDDM"
    assert facts.compute_capability is None
    assert facts.card_used_bytes is None and facts.card_total_bytes is None
    assert facts.holders is not None and facts.holders.processes is None


def test_versions_off_the_lock_are_named_and_any_locked_one_will_do(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("torch==0.1 ; python_version < '3'\n    --hash=sha256:0\ntimm==0.2\n")
    assert [words.split()[0] for words in off_lock(lock)] == ["torch", "timm"]
    installed = machine.version("torch").split("+")[0]
    lock.write_text(f"torch==0.1\ntorch=={installed}\n")
    assert off_lock(lock) == ()
    assert off_lock(tmp_path / "none") == ()


def test_where_it_runs_is_seen_from_files(tmp_path: Path) -> None:
    assert machine._place(tmp_path) == "machine"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/version").write_text("Linux version 6.6-microsoft-standard-WSL2")
    assert machine._place(tmp_path) == "WSL2"
    (tmp_path / ".dockerenv").touch()
    assert machine._place(tmp_path) == "container"


def test_a_folder_that_is_not_there_is_judged_by_the_one_that_takes_it(tmp_path: Path) -> None:
    folder = machine._folder("weights", tmp_path / "not" / "there")
    assert folder.writable and folder.free_bytes
    file = tmp_path / "file"
    file.touch()
    assert not machine._folder("weights", file / "in a file").writable
