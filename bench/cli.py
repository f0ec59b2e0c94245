"""The `bench` command: a name, where its command stands, and one line of help. Nothing else."""

import click

from distill.base.console import LazyGroup

COMMANDS = {
    "probe": (
        "bench.probe.command:probe",
        "The whole grid: trials, tables, pictures, a profile.",
    ),
    "predict": (
        "bench.predict.command:predict",
        "One configuration: peaks, and who owns each byte.",
    ),
    "models": ("bench.models.command:models", "CNN against ViT: size, memory, speed, accuracy."),
    "compare": (
        "bench.compare.command:compare",
        "Memory regression against committed predictions.",
    ),
    "diff": (
        "bench.diff.command:diff",
        "Two configurations, or files of some, side by side.",
    ),
    "verify": ("bench.verify.command:verify", "Prove a profile on the GPU that is here."),
    "evidence": (
        "bench.evidence.command:evidence",
        "On a GPU: all that needs one, in one bounded run.",
    ),
    "audit": ("bench.audit.command:audit", "The original write-up's figures, held against."),
    "report": (
        "bench.report.command:report",
        "A run, its profile and the evidence as one page.",
    ),
    "schema": (
        "bench.schema.command:schema",
        "The form of each file as JSON Schema, for other programs.",
    ),
    "cards": ("bench.card.command:cards", "The cards that a number can be for."),
    "doctor": ("bench.doctor.command:doctor", "The machine: each problem with its cure."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="six-gig-distill")
def main() -> None:
    """Find out what fits in a GPU's memory, with the GPU or without it."""
