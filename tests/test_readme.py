"""The front page names what is there: its links lead somewhere, its numbers are the evidence's."""

import re
from pathlib import Path

import pytest

from bench.audit.measured import recorded_peaks
from distill.base.units import MIB, mib, percent
from distill.spec.image_files import IMAGE_SUFFIXES
from distill.spec.profile import read_profile
from distill.spec.recipe import load_recipe
from tests.conftest import ROOT

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/prediction.md",
    "docs/container.md",
    "docs/ci.md",
    "docs/data.md",
    "docs/recipes.md",
    "docs/scale.md",
)
"""The pages that link."""

LINK = re.compile(r"\]\((?!http)([^)\s]+)\)|^\[\w+\]: (?!http)(\S+)$", re.M)
PATH = re.compile(r"`((?:bench|distill|tests|results|docs|profiles|docker)/[\w./-]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    links = [first or second for first, second in LINK.findall(text)]
    targets = [(ROOT / page).parent / link.partition("#")[0] for link in links]
    targets += [ROOT / path for path in PATH.findall(text)]
    assert targets
    missing = [str(target) for target in targets if not target.exists()]
    assert not missing


def test_the_page_on_data_names_every_ending_that_is_read() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    (line,) = re.findall(r"^Read are `([^`]+)`", page, re.M)
    assert set(line.split()) == IMAGE_SUFFIXES


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading of the README, without its two head lines."""
    section = (ROOT / "README.md").read_text().split(heading)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.M)
    assert table is not None
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]
    ]


def test_what_is_called_measured_was_recorded_on_the_card_that_is_named() -> None:
    peaks = recorded_peaks(ROOT / "results" / "evidence")
    found = rows("## Predicted against measured")
    assert len(found) == 3
    for stage, images, _, predicted, measured, off_by in found:
        peak = peaks[stage.split(":")[0], int(images), "fp16", 1]
        assert "H100" in peak.card and peak.file.parent == Path(ROOT, "results/evidence/h100")
        assert measured == mib(peak.reserved_bytes) == predicted and off_by == "0 B"
        assert not peak.reserved_bytes % MIB


def test_what_the_profile_chooses_is_in_the_profile() -> None:
    profile = read_profile(ROOT / "profiles" / "rtx4050.json")
    found = rows("So a 6 GB card holds")
    for (stage, images, peak, share), choice in zip(found, profile.choices, strict=True):
        candidate, whole = choice.candidate, profile.budget.limit_bytes
        assert stage == choice.stage
        assert images == f"{candidate.micro_batch} × {candidate.accumulation}"
        assert peak == mib(choice.peak_reserved_bytes)
        assert share == percent(choice.peak_reserved_bytes, whole)


def test_the_processes_on_the_page_of_scale_share_one_update() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    found = re.search(r"`bench predict .*--batch-size (\d+) .*--world-size (\d+)` predicts", page)
    assert found is not None
    update = load_recipe("cifar10").training_of("student").effective_batch
    assert int(found[1]) * int(found[2]) <= update
