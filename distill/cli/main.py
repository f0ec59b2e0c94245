"""The `distill` command: a name, where its command stands, and one line of help. Nothing else."""

import click

from distill.base.console import LazyGroup

COMMANDS = {
    "init": ("distill.cli.init_command:init", "Write a recipe of your own, with comments."),
    "run": ("distill.cli.run_command:run", "Train the chain, or go on with it."),
    "attention": (
        "distill.cli.attention_command:attention",
        "Where a trained model looks, as pictures.",
    ),
    "evaluate": (
        "distill.cli.evaluate_command:evaluate",
        "Repeat the tests of a finished run.",
    ),
    "predict": ("distill.cli.predict_command:predict", "What a trained model says of images."),
    "tables": ("distill.cli.tables_command:tables", "A run's scores and memory by stage."),
    "export": ("distill.cli.export_command:export", "A stage's best model as a folder for timm."),
    "clean": ("distill.cli.clean_command:clean", "Remove what a run no longer needs."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="six-gig-distill")
def main() -> None:
    """Distil ViT-Base to ViT-Small to ViT-Tiny inside a memory budget."""
