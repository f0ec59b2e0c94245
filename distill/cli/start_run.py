"""The start of a run: the device is picked, the machine checked, the chain trained and reported.

Loads torch; the environment that torch reads must be set before (`run_settings`).
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch

from distill.base.errors import UserError
from distill.base.signals import stop_on_signals
from distill.cli.joined_ranks import is_started_again, ranks_joined
from distill.cli.run_options import RunOptions
from distill.cli.run_settings import RunSettings
from distill.device.cores import available_cores
from distill.run.chain import run_chain
from distill.run.machine_check import check_machine, verified_again, watched
from distill.run.request import RunRequest
from distill.spec.profile import Profile
from distill.train.class_scores import ClassScores
from distill.train.ranks import Ranks
from distill.train.stage_job import StageJob

MOST_THREADS_A_CORE = 8


def start_run(options: RunOptions, settings: RunSettings) -> None:
    """Train what is not trained yet, and leave the tables and curves beside the stages."""
    with ranks_joined(options.device) as (ranks, device):
        _run_among(options, settings, ranks, device)


def _run_among(
    options: RunOptions, settings: RunSettings, ranks: Ranks, device: torch.device
) -> None:
    """The same in one of the processes that train together."""
    _check_threads(options.threads, available_cores())
    if options.reverify and ranks.world_size > 1:
        raise UserError("--reverify is for one process. Leave it out with torchrun: bench verify.")
    profile = _profile(options, settings)
    if profile is not None:
        check_machine(profile, settings.filed_recipe, device, force=options.force)
    request = replace(_request(options, settings, profile, device), ranks=ranks)
    if is_started_again():
        request = replace(request, fresh=False)  # it was started over by those before
    again = "the same command without --fresh" if options.fresh else "the same command"
    kept = f"What was saved is kept; {again} goes on."
    with stop_on_signals(kept) as stop, watched(device):
        run_chain(request, stop)
        if ranks.leads:
            _reports().report_run(profile, request.folder)


def _check_threads(threads: int | None, cores: int) -> None:
    """Refuse so many threads that they would only wait for each other.

    Some more than cores may be asked for, as a run of another machine began with them.
    """
    most = MOST_THREADS_A_CORE * cores
    if threads is not None and threads > most:
        raise UserError(
            f"--threads {threads} would only wait for each other on {cores} core(s). Give at most "
            f"{most}; as many as there are cores is quickest."
        )


def _profile(options: RunOptions, settings: RunSettings) -> Profile | None:
    """The profile, verified here first where `--reverify` asks for it."""
    if not options.reverify:
        return settings.profile
    if options.profile_path is None:
        raise UserError("--reverify needs the --profile that is to be verified.")
    return verified_again(options.profile_path)


def _request(
    options: RunOptions, settings: RunSettings, profile: Profile | None, device: torch.device
) -> RunRequest:
    return RunRequest(
        recipe=settings.recipe,
        profile=profile,
        overrides=settings.overrides,
        stage=options.stage,
        out=options.out,
        data_dir=options.data_dir,
        num_workers=options.num_workers,
        threads=options.threads,
        fresh=options.fresh,
        device=device,
        weights=settings.weights,
        json_log=options.json_log,
        memory_log=options.memory_log,
        compiles=options.compile is not None,
        empty_cache_every=options.empty_cache_every,
        class_report=_class_report,
        stage_pictures=_stage_pictures if options.attention else None,
    )


def _class_report(folder: Path, found: ClassScores, title: str) -> None:
    _reports().write_class_report(folder, found, title)


def _stage_pictures(request: RunRequest, job: StageJob) -> None:
    _reports().draw_at_stage_end(request, job)


def _reports() -> ModuleType:
    # loads matplotlib, which takes a second: training does not wait for it
    from distill.report import reports

    return reports
