"""Taking a run's folder: its mark and its number of threads, the first change to what is there."""

import os
from collections.abc import Mapping, Sequence

import torch

from distill.base.console import say
from distill.device.cores import available_cores, useful_threads
from distill.run.claim import FolderClaim
from distill.run.request import RunRequest
from distill.spec.candidate import Candidate


def take_folder(
    request: RunRequest,
    candidates: Sequence[Candidate],
    claim: FolderClaim,
    content: Mapping[str, int | str],
) -> None:
    """Mark the folder as this run's, and compute with the threads that are the run's.

    They decide the order of sums, and so the last digits of what is learnt on a CPU. Of processes
    that train together one has marked the folder when the others come here.
    """
    cores, before = available_cores(), claim.threads()
    threads = request.threads or _default_threads(request, candidates, cores)
    if request.ranks.leads:
        threads = claim.take(content, threads, insist=request.threads is not None)
    else:
        threads = before or threads
    torch.set_num_threads(threads)
    if request.device.type != "cpu":
        return
    say(f"  cpu  {threads} thread(s), {cores} core(s) to use")
    if before is not None and threads != before and not claim.started_over:
        say(f"  cpu  the run began with {before}: its last digits may differ from one in one go")
    elif threads > cores and request.threads is None:
        say(f"  cpu  the run began with {threads}; with --threads {cores} it would go on quicker")


def _default_threads(request: RunRequest, candidates: Sequence[Candidate], cores: int) -> int:
    """As many threads as there is work for; as OpenMP's own variable says where that is set."""
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    if request.device.type != "cpu":
        return min(torch.get_num_threads(), cores)
    return useful_threads(candidates, cores)
