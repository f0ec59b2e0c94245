"""`distill run`: the chain, from its first stage or from where it stands."""

import click

from distill.base.console import GroupedCommand
from distill.base.launched import told_by_one_of_a_machine
from distill.cli.run_options import RunOptions, run_options


@click.command(cls=GroupedCommand)
@run_options
def run(options: RunOptions) -> None:
    """Train the chain: each stage taught by the best checkpoint of the one before it.

    A run that is there is continued; a finished stage is not repeated. Authority: this command
    line, then the profile, then the recipe. A batch size, precision or checkpointing other than
    the profile's is first held against the prediction. On several GPUs: torchrun --nproc-per-node N
    -m distill run …
    """
    # Two imports, in this order. The first loads pydantic, which help must not, but no torch: it
    # reads the profile and sets the environment. CUDA's libraries and PyTorch's allocator read
    # that once, and part of it when torch is loaded.
    from distill.cli.run_settings import set_run_environment, settings_of

    with told_by_one_of_a_machine():
        settings = settings_of(options)
    set_run_environment(settings)

    # The second loads torch, in the environment that now stands.
    from distill.cli.start_run import start_run

    start_run(options, settings)
