"""Today's cells for programs that keep series of numbers and draw them. Pure.

Two forms: the list that github-action-benchmark reads as `customSmallerIsBetter`
(https://github.com/benchmark-action/github-action-benchmark#examples), and the Bencher Metric
Format (https://bencher.dev/docs/reference/bencher-metric-format/).
"""

from typing import Any

from bench.compare.baseline import Baseline
from bench.compare.compare import PEAKS
from distill.base.units import MIB, mib


def smaller_is_better(baseline: Baseline) -> list[dict[str, Any]]:
    """Reserved MiB a cell, with the other two peaks and what was predicted for as `extra`."""
    about = (
        f"predicted for {baseline.target}, recipe {baseline.recipe}, torch {baseline.torch}, "
        f"timm {baseline.timm}"
    )
    return [
        {
            "name": f"{cell.name} reserved",
            "unit": "MiB",
            "value": cell.reserved_bytes / MIB,
            "extra": f"allocated {mib(cell.allocated_bytes)} MiB, "
            f"requested {mib(cell.requested_bytes)} MiB; {about}",
        }
        for cell in baseline.cells
    ]


def bencher_metrics(baseline: Baseline) -> dict[str, dict[str, dict[str, int]]]:
    """Bytes by cell and peak: `{cell: {"reserved-bytes": {"value": …}}}`."""
    return {
        cell.name: {peak.replace("_", "-"): {"value": getattr(cell, peak)} for peak in PEAKS}
        for cell in baseline.cells
    }
