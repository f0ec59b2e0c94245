"""One prediction as text for people. Pure."""

from collections.abc import Sequence

from bench.card.budget import CONTEXT_BYTES
from bench.card.targets import target_line
from bench.predict.claims import load_claims
from bench.predict.explain import Gain
from bench.simulate.prediction import Prediction
from distill.base.units import GIB, MIB, bytes_text, mib, milliseconds, percent, rate
from distill.report.tables import OWNER_TITLES, Row, as_text, exact_mib
from distill.spec.candidate import Candidate

PART_TITLES = {
    "setup": "building",
    "first": "the first micro-batch",
    "more": "a further micro-batch",
    "first_update": "the first update",
    "again": "a micro-batch",
    "update": "an update",
    "evaluate": "an evaluation",
    "teach_first": "the teacher's first batch",
    "teach": "a batch of the teacher's",
}

CLAIMED_OWNERS = {
    "budget.weights": "weights",
    "budget.gradients": "gradients",
    "budget.optimizer": "optimizer_state",
    "budget.activations": "activations",
}


def fit_line(prediction: Prediction, limit_bytes: int) -> str:
    """The verdict in words: whether it fits, and the MiB that are left or missing."""
    missing = prediction.safe_bytes - limit_bytes
    there = f"{mib(limit_bytes)} MiB that are there for PyTorch"
    if missing > 0:
        return f"does not fit: {mib(missing)} MiB more than the {there}"
    return f"fits in the {there}: {-missing // MIB:,} MiB are left"


def prediction_text(prediction: Prediction) -> str:
    """Peaks, the breakdown, and what is largest in it."""
    return "\n".join(
        [
            *_title(prediction),
            "",
            as_text(_breakdown_rows(prediction)),
            "",
            *_peaks(prediction),
            "",
            "largest at the peak",
            as_text(_largest_rows(prediction)),
        ]
    )


def largest_batch_text(
    best: Prediction | None, following: Prediction | None, limit_bytes: int
) -> str:
    """The largest batch that fits, and the first that does not, in words."""
    edge = "more images at a time are not taken"
    if following is not None:
        over = following.safe_bytes - limit_bytes
        edge = (
            f"{following.candidate.micro_batch} would need {mib(following.safe_bytes)} MiB, "
            f"{mib(over)} more than the {mib(limit_bytes)} that are there"
        )
    if best is None:
        return f"No batch fits: {edge}."
    return (
        f"Largest micro-batch: {best.candidate.micro_batch} "
        f"(a cap of {mib(best.safe_bytes)} MiB would do, {mib(limit_bytes)} are there once CUDA "
        f"context and margin, both assumed, are taken off; {edge}).\n\n" + prediction_text(best)
    )


def gains_text(gains: Sequence[Gain]) -> str:
    """The changes that would help, the most helpful first."""
    if not gains:
        return "No other checkpointing, precision, batch or optimizer would need less."
    rows: list[Row] = [
        {
            "change": gain.proposal.words,
            "needs MiB": mib(gain.needed_bytes),
            "saves MiB": f"{gain.saved_bytes / MIB:,.0f}",
            "images/s": rate(gain.images_per_second),
        }
        for gain in gains
    ]
    return "what would help (predicted)\n" + as_text(rows)


def _title(prediction: Prediction) -> list[str]:
    candidate = prediction.candidate
    taught = f", taught by {candidate.teacher.title}" if candidate.teacher else ""
    if candidate.teacher_logits == "cached":
        taught += " (cached logits)"
    return [
        f"{candidate.student.title}{taught}: {candidate.label}, "
        f"{candidate.micro_batch} × {candidate.accumulation} images, "
        f"{candidate.implementation} {candidate.optimizer}, "
        f"{prediction.pins.allocator} segments",
        f"on {target_line(prediction.target)}, torch {prediction.torch}",
    ]


def _breakdown_rows(prediction: Prediction) -> list[Row]:
    claimed = _claimed(prediction.candidate)
    rows: list[Row] = []
    for owner, title in OWNER_TITLES.items():
        size = prediction.breakdown[owner]
        row = {"owner": title, "MiB": exact_mib(size), "share": percent(size, prediction.reserved)}
        rows.append(row | ({"claimed MiB": claimed.get(owner, "–")} if claimed else {}))
    if claimed:
        rows.append(
            {
                "owner": "“forward-pass buffers”",
                "MiB": "–",
                "share": "–",
                "claimed MiB": claimed["forward_buffers"],
            }
        )
    total = {"owner": "peak reserved", "MiB": exact_mib(prediction.reserved), "share": "100.0 %"}
    return [*rows, total | ({"claimed MiB": claimed["peak"]} if claimed else {})]


def _claimed(candidate: Candidate) -> dict[str, str]:
    """The write-up's claims for this very configuration, which is only ever ViT-Base's."""
    the_one = (candidate.student.name, candidate.micro_batch, candidate.checkpointing)
    if the_one != ("vit_base_patch16_224", 8, 1) or candidate.precision == "fp32":
        return {}
    by_id = {claim.id: claim for claim in load_claims()}
    found = {owner: f"{by_id[name].middle:,.0f}" for name, owner in CLAIMED_OWNERS.items()}
    found["forward_buffers"] = f"{by_id['budget.forward_buffers'].middle:,.0f}"
    found["peak"] = f"{by_id['peak.vit_base.bs8'].middle * GIB / MIB:,.0f}"
    return found


def _peaks(prediction: Prediction) -> list[str]:
    worst = ""
    if prediction.reserved_max > prediction.reserved:
        worst = f" (at most {mib(prediction.reserved_max)}{_whatever(prediction)})"
    return [
        f"requested {mib(prediction.requested)} · allocated {mib(prediction.allocated)} · "
        f"reserved {mib(prediction.reserved)} MiB{worst}",
        *_bound(prediction),
        f"smallest cap that it goes through under: {mib(prediction.cap_needed)} MiB",
        f"highest in {prediction.peak_phase} of {PART_TITLES[prediction.peak_part]}; "
        f"beside it {bytes_text(CONTEXT_BYTES)} of CUDA context (assumed)",
        *_times(prediction),
        *_caching(prediction),
    ]


def _times(prediction: Prediction) -> list[str]:
    """How fast it is expected to be, what bounds it, and what that rests on."""
    timing = prediction.timing
    return [
        f"about {rate(prediction.expected_images_per_second)} images/s, "
        f"{milliseconds(timing.seconds)} an update (predicted, "
        f"{timing.calibration.words}); at most {rate(prediction.images_per_second)} (roofline)",
        f"bound by: {timing.words}; {timing.launches:,} launches an update",
    ]


def _caching(prediction: Prediction) -> list[str]:
    """One line on the pass that makes the logits, where the step reads them."""
    if prediction.caching is None:
        return []
    return [
        f"before the training the teacher alone: {mib(prediction.caching.safe_bytes)} MiB, about "
        f"{rate(prediction.caching.expected_images_per_second)} images/s"
    ]


def _whatever(prediction: Prediction) -> str:
    return " in any order of segments" if prediction.pins.allocator == "native" else ""


def _bound(prediction: Prediction) -> list[str]:
    """One line on how much of the most is a bound for cuDNN, and why."""
    if not prediction.workspace_bound:
        return []
    return [
        f"of the most, {exact_mib(prediction.workspace_bound)} MiB are a bound for cuDNN: "
        "some of its workspaces only a card can tell"
    ]


def _largest_rows(prediction: Prediction) -> list[Row]:
    return [
        {
            "MiB": exact_mib(allocation.size_bytes),
            "owner": OWNER_TITLES[allocation.owner],
            "op": allocation.op.removeprefix("aten."),
            "module": allocation.module or "–",
        }
        for allocation in prediction.largest
    ]
