"""`bench evidence` with a small plan, for a process that has the driver: `… OUT`.

Every part is the command's own; only the models are the demo's. Prints what became of each part.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from bench.card.detect import detect_card
from bench.card.targets import target_named
from bench.evidence.evidence import run_evidence
from bench.evidence.plan import OWN, Cell, Contestant, Plan, recordable
from bench.evidence.rehearsal import profile_of
from bench.evidence.session import EvidenceRequest
from bench.simulate.predictor import Predictor
from distill.base.signals import stop_on_signals
from distill.spec.candidate import Candidate
from distill.spec.profile import write_profile
from distill.spec.recipe import load_recipe


def small_plan(chosen: Candidate) -> Plan:
    """Both allocators, a partial batch, both loops."""
    timed = replace(chosen, images_per_epoch=None)
    return Plan(
        golden=(
            Cell(recordable(chosen)),
            Cell(recordable(replace(chosen, precision="fp32")), "native"),
        ),
        cells=(Cell(recordable(replace(chosen, micro_batch=7))),),
        contestants=(
            Contestant(OWN, timed),
            Contestant("the plainest loop", timed, "plain loop"),
        ),
    )


def main() -> None:
    """Ask the card, write a profile for it, gather the evidence."""
    out = Path(sys.argv[1])
    chosen = replace(
        load_recipe("demo").candidate("student", micro_batch=16),
        precision="bf16",
        accumulation=2,
        images_per_epoch=200,
        evaluation_batch=64,
    )
    profile = out / "profile.json"
    prediction = Predictor(target_named("rtx4050"), "expandable").predict(chosen)
    write_profile(profile, profile_of(prediction))
    request = EvidenceRequest(
        out=out,
        minutes=5,
        plan=small_plan(chosen),
        card=detect_card(),
        profile=profile,
        command="bench evidence",
    )
    with stop_on_signals() as stop:
        print(json.dumps(run_evidence(request, stop)))


if __name__ == "__main__":
    main()
