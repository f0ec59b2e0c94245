"""The cores that are really there: by affinity and by the quota of every control group above."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from distill.device.cores import available_cores, useful_threads
from distill.spec.candidate import Candidate, ModelSpec


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


def asked(folder: Path, membership: str, **files: str) -> int:
    """The cores where the control groups have these files (`/` is `__` in their names)."""
    for name, text in files.items():
        path = folder / "groups" / name.replace("__", "/").replace("_max", ".max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "membership").write_text(membership)
    return available_cores(folder / "groups", folder / "membership")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)],
)
def test_a_container_has_its_quota(tmp_path: Path, quota: str, cores: int) -> None:
    assert asked(tmp_path, "0::/\n", cpu_max=quota) == cores


def test_the_smallest_quota_of_the_groups_above_counts(tmp_path: Path) -> None:
    membership = "1:name=systemd:/\n0::/user/job\n"
    found = asked(tmp_path, membership, user__cpu_max="300000 100000", user__job__cpu_max="max 1")
    assert found == 3


def test_version_1_has_its_quota_in_two_files(tmp_path: Path) -> None:
    folder = tmp_path / "groups" / "cpu" / "job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("400000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert asked(tmp_path, "4:cpu:/job\n") == 4
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert asked(tmp_path, "4:cpu:/job\n") == 16


@pytest.mark.parametrize("text", ["", "many few", "1 0", "max"])
def test_what_cannot_be_read_limits_nothing(tmp_path: Path, text: str) -> None:
    assert asked(tmp_path, "nonsense", cpu_max=text) == 16


@pytest.mark.parametrize(
    ("width", "micro_batch", "threads"), [(16, 4, 1), (128, 64, 4), (128, 512, 16)]
)
def test_a_model_has_as_many_threads_as_it_has_work_for(
    small_candidate: Candidate, width: int, micro_batch: int, threads: int
) -> None:
    student = replace(small_candidate.student, width=width)
    candidate = replace(small_candidate, student=student, micro_batch=micro_batch)
    assert useful_threads([small_candidate, candidate], 16) == threads
    assert useful_threads([candidate], 1) == 1


def test_a_model_of_timms_own_shape_has_all_cores(small_candidate: Candidate) -> None:
    student = ModelSpec(name="vit_tiny_patch16_224", classes=10, image_size=224)
    assert useful_threads([replace(small_candidate, student=student)], 16) == 16
