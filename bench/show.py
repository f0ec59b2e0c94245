"""One prediction as JSON for programs, as text for people. Pure."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.grid import label
from bench.report import target_line
from distill.tables import OWNER_TITLES, as_text, exact_mib
from distill.units import bytes_text, percent, rate

if TYPE_CHECKING:
    from bench.predict.predictor import Prediction

from bench.cards import CONTEXT_BYTES


def prediction_document(prediction: "Prediction") -> dict[str, Any]:
    """A prediction as plain values; `context_bytes` is assumed and outside the sum."""
    return {
        "candidate": asdict(prediction.candidate),
        "target": prediction.target.model_dump(mode="json"),
        "pins": prediction.pins.model_dump(mode="json"),
        "peak_requested_bytes": prediction.requested,
        "peak_allocated_bytes": prediction.allocated,
        "peak_reserved_bytes": prediction.reserved,
        "peak_reserved_max_bytes": prediction.reserved_max,
        "cap_needed_bytes": prediction.cap_needed,
        "context_bytes": CONTEXT_BYTES,
        "context_source": "assumed",
        "breakdown": prediction.breakdown,
        "peak_phase": prediction.peak_phase,
        "peak_op": prediction.peak_op,
        "peak_module": prediction.peak_module,
        "bound_images_per_second": prediction.images_per_second,
        "source": "predicted",
        "torch": prediction.torch,
        "trace_seconds": prediction.trace_seconds,
    }


def prediction_json(prediction: "Prediction") -> str:
    """The document of `bench predict --json`."""
    return json.dumps(prediction_document(prediction), indent=2)


def prediction_text(prediction: "Prediction") -> str:
    """Peaks, where the peak is, and the breakdown."""
    candidate = prediction.candidate
    taught = f", taught by {candidate.teacher.title}" if candidate.teacher else ""
    rows = [
        {
            "owner": title,
            "MiB": exact_mib(prediction.breakdown[owner]),
            "share": percent(prediction.breakdown[owner], prediction.reserved),
        }
        for owner, title in OWNER_TITLES.items()
    ]
    total = exact_mib(prediction.reserved)
    rows.append({"owner": "peak reserved", "MiB": total, "share": "100.0 %"})
    return "\n".join(
        [
            f"{candidate.student.title}{taught}: {label(candidate)}, "
            f"{candidate.micro_batch} × {candidate.accumulation} images, "
            f"{prediction.pins.allocator} segments",
            f"on {target_line(prediction.target)}, torch {prediction.torch}",
            "",
            as_text(rows),
            "",
            f"requested {bytes_text(prediction.requested)} · allocated "
            f"{bytes_text(prediction.allocated)} · reserved {bytes_text(prediction.reserved)} "
            f"(at most {bytes_text(prediction.reserved_max)} in any order of segments)",
            f"peak in {prediction.peak_phase}, at {prediction.peak_op} of "
            f"{prediction.peak_module or 'the step'}",
            f"beside it: {bytes_text(CONTEXT_BYTES)} of CUDA context (assumed)",
            f"at most {rate(prediction.images_per_second)} images/s (roofline)",
        ]
    )
