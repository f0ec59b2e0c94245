"""The request of `distill run`, and the device that it gets: which one, and how much of it.

Trains nothing and reads no data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from distill.base.errors import NoDeviceError, ProfileMismatch, UserError
from distill.base.units import bytes_text
from distill.spec.candidate import StageName
from distill.spec.profile import Budget, Profile
from distill.spec.recipe import Recipe, Stage
from distill.spec.stage_plan import Overrides, StagePlan, plan_stage
from distill.step.compiled import check_compilable
from distill.step.memory import set_cap
from distill.train.class_scores import ClassScores
from distill.train.ranks import ALONE, Ranks
from distill.train.run_folder import run_folder
from distill.train.stage_job import StageJob

ClassReport = Callable[[Path, ClassScores, str], None]
"""What is done with the scores by class of a stage that was tested: its folder, they, a title."""

StagePictures = Callable[["RunRequest", StageJob], None]
"""What is drawn of a stage that is done, while its model is still in memory."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The values that `distill run` works from."""

    recipe: Recipe
    profile: Profile | None
    overrides: Overrides
    stage: StageName | Literal["all"]
    out: Path
    data_dir: Path
    device: torch.device
    fresh: bool = False
    num_workers: int | None = None
    weights: Mapping[StageName, Path] = field(default_factory=dict)
    json_log: Path | None = None
    memory_log: bool = False
    empty_cache_every: int | None = None
    class_report: ClassReport | None = None
    stage_pictures: StagePictures | None = None
    threads: int | None = None
    compiles: bool = False
    ranks: Ranks = ALONE

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        return run_folder(self.out, self.recipe)


def pick_device(wanted: str, local_rank: int = 0) -> torch.device:
    """`auto`, `cuda` or `cpu` as a device, one for each process of a machine.

    Raises `NoDeviceError` when CUDA is not to be had, `UserError` where there are too few GPUs.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise NoDeviceError("No CUDA device here. Use --device cpu, or run where there is one.")
    if wanted == "cpu" or not available:
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"This machine has {torch.cuda.device_count()} GPU(s), and more processes than that. "
            "Start one a GPU: torchrun --nproc-per-node gpu."
        )
    return torch.device("cuda", local_rank)


def planned(request: RunRequest, stage: Stage) -> StagePlan:
    """The stage as it will be trained on the request's device.

    Raises `UserError` for what contradicts itself, or can't be compiled though it is asked for.
    """
    on_cuda = request.device.type == "cuda"
    plan = plan_stage(
        request.recipe,
        stage,
        profile=request.profile,
        overrides=request.overrides,
        device="cuda" if on_cuda else "cpu",
        compute_capability=torch.cuda.get_device_capability(request.device) if on_cuda else None,
    )
    if request.compiles and request.ranks.world_size > 1:
        raise UserError("--compile is for one process. Leave it out with torchrun.")
    if request.compiles:
        check_compilable(plan.candidate, request.device.type)
    return plan


def enforce(budget: Budget, device: torch.device) -> str:
    """Hold this process to the profile's limit; exit 6 on a card that can't hold it.

    Cards of one model differ by some MiB: what counts is the limit and the CUDA context.
    """
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    needed_bytes = budget.limit_bytes + budget.context_bytes
    if total_bytes < needed_bytes:
        raise ProfileMismatch(
            f"This card has {bytes_text(total_bytes)}, the profile needs "
            f"{bytes_text(needed_bytes)}, the CUDA context included. "
            "Make one for this card: bench probe."
        )
    set_cap(budget.limit_bytes, device)
    return (
        f"cap  {bytes_text(budget.limit_bytes)} of {bytes_text(total_bytes)}, enforced by PyTorch"
    )
