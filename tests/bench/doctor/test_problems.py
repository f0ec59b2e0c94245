"""Each thing that can be wrong with a machine is named with its cure, and nothing else is."""

import json
from dataclasses import replace

import pytest

from bench.doctor.problems import Facts, Folder, doctor_text, gpu_problem, problems
from distill.device.nvml import Holder, Holders
from tests.conftest import Command

GIB = 2**30

HEALTHY = Facts(
    place="machine",
    nvml="answers",
    nvml_words="",
    driver="580.65.06",
    driver_cuda=(13, 0),
    torch="2.11.0",
    torch_cuda="13.0",
    visible_devices=None,
    card="NVIDIA GeForce RTX 4050 Laptop GPU",
    compute_capability=(8, 9),
    card_total_bytes=6 * GIB,
    card_used_bytes=2**20,
    torch_sees_cuda=True,
    folders=(Folder(name="this folder", writable=True, free_bytes=100 * GIB),),
    power_source="mains",
)

ABSENT = replace(HEALTHY, nvml="no library", nvml_words="NVML: not found", driver=None)


def test_a_healthy_machine_has_no_problem() -> None:
    assert problems(HEALTHY) == []
    assert "No problem found" in doctor_text(HEALTHY, as_json=False)


def test_what_is_not_known_is_no_problem() -> None:
    """NVML under WSL2 answers with N/A: nothing is wrong because of it."""
    unknown = replace(
        HEALTHY,
        place="WSL2",
        card_used_bytes=None,
        card_total_bytes=None,
        compute_capability=None,
        torch_sees_cuda=None,
        power_source=None,
        holders=Holders(processes=None, reason="NVML: Not Supported"),
    )
    assert problems(unknown) == []


@pytest.mark.parametrize(
    ("facts", "what", "cure"),
    [
        (ABSENT, "No NVIDIA GPU is usable", "nvidia-smi"),
        (replace(ABSENT, place="container"), "in this container", "--gpus all"),
        (replace(ABSENT, place="WSL2"), "in WSL2", "wsl --update"),
        (replace(ABSENT, nvml="mismatch"), "updated while it was loaded", "Restart"),
        (replace(ABSENT, nvml="no permission"), "refuses this user", "/dev/nvidia"),
        (replace(HEALTHY, driver_cuda=(12, 8)), "runs CUDA up to 12.8", "driver 580 or later"),
        (
            replace(HEALTHY, driver_cuda=(12, 8), place="container"),
            "this torch needs 13.0",
            "on the host",
        ),
        (replace(HEALTHY, visible_devices=""), "hides every GPU", "Unset"),
        (replace(HEALTHY, torch_cuda=None), "built without CUDA", "make setup"),
        (replace(HEALTHY, compute_capability=(6, 1)), "capability 6.1", "RTX 20"),
        (
            replace(HEALTHY, torch_sees_cuda=False, torch_words="odd"),
            "torch does not (odd)",
            "make",
        ),
        (
            replace(
                HEALTHY, torch_sees_cuda=None, torch_words="exit status 1: ImportError: libnccl"
            ),
            "torch can't be asked (exit status 1: ImportError: libnccl)",
            "make setup",
        ),
        (replace(HEALTHY, off_lock=("torch 2.12 (locked 2.11.0)",)), "torch 2.12", "make setup"),
        (replace(HEALTHY, power_source="battery"), "battery", "Plug"),
        (
            replace(HEALTHY, folders=(Folder(name="weights", writable=False, free_bytes=GIB),)),
            "weights cannot be written",
            "write access",
        ),
        (
            replace(HEALTHY, folders=(Folder(name="weights", writable=True, free_bytes=GIB),)),
            "weights has 1.00 GiB free",
            "Make room",
        ),
    ],
)
def test_each_problem_comes_alone_and_with_its_cure(facts: Facts, what: str, cure: str) -> None:
    (problem,) = problems(facts)
    assert what in problem.what and cure in problem.cure


@pytest.mark.parametrize(("driver", "torch_cuda"), [((13, 0), "13.2"), ((12, 2), "12.8")])
def test_a_driver_of_the_same_major_release_will_do(
    driver: tuple[int, int], torch_cuda: str
) -> None:
    assert gpu_problem(replace(HEALTHY, driver_cuda=driver, torch_cuda=torch_cuda)) is None


def test_who_holds_the_memory_is_named_as_far_as_it_is_told() -> None:
    game = Holder(pid=1, name="game", used_bytes=GIB)
    busy = replace(HEALTHY, card_used_bytes=GIB, holders=Holders(processes=(game,)))
    assert "by game (1.00 GiB)" in problems(busy)[0].what
    hidden = replace(busy, holders=Holders(processes=None, reason="no permission"))
    assert "by whom is not told" in problems(hidden)[0].what
    unnamed = Holder(pid=1, name=None, used_bytes=None)
    assert "a process (–)" in problems(replace(busy, holders=Holders(processes=(unnamed,))))[0].what


@pytest.mark.slow
def test_as_json_it_is_one_document(command: Command) -> None:
    done = command("bench", "doctor", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == (1 if document["problems"] else 0)
    assert all(problem["what"] and problem["cure"] for problem in document["problems"])


@pytest.mark.slow
def test_a_hidden_gpu_is_a_problem_and_brief_says_it_in_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = command("bench", "doctor")
    assert done.returncode == 1 and "Cure: Unset it." in done.stdout
    brief = command("bench", "doctor", "--brief")
    assert (brief.returncode, brief.stdout) == (0, "")
    assert len(brief.stderr.splitlines()) == 1 and "Unset it." in brief.stderr
