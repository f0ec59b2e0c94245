"""The stub driver, built once for all tests that run under it."""

from pathlib import Path

import pytest

from tests.driver.build import build, missing_tools


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing_tools():
        pytest.skip(f"building the driver takes {' and '.join(missing_tools())}")
    return build(tmp_path_factory.mktemp("driver"))
