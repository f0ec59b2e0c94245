"""The profile that comes with the project, as `distill` reads it."""

from pathlib import Path

import pytest

from distill.spec.profile import Profile, read_profile
from tests.conftest import ROOT


@pytest.fixture
def rtx4050_path() -> Path:
    return ROOT / "profiles" / "rtx4050.json"


@pytest.fixture
def rtx4050_profile(rtx4050_path: Path) -> Profile:
    return read_profile(rtx4050_path)
