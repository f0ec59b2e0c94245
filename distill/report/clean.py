"""Removing what a run no longer needs: stale temporary files and superseded checkpoints.

Never a best checkpoint or the latest one, nor anything that this program did not write.
"""

from contextlib import nullcontext
from pathlib import Path

import torch

from distill.base.errors import UserError
from distill.base.files import STALE_SUFFIX
from distill.base.lock import alone_with
from distill.base.units import bytes_text
from distill.data.logits_file import logits_files
from distill.report.found_run import FoundRun, find_run
from distill.step.memory import read_device_usage, release_cached
from distill.train.best_weights import find_best, superseded
from distill.train.run_folder import StageFolder, read_result


def clean_folder(folder: Path | None, *, dry_run: bool) -> str:
    """Clean the run in `folder`, or the only one there is, while no other process is at work on it.

    A dry run changes nothing and needs no lock.
    """
    found = find_run(folder)
    with nullcontext() if dry_run else alone_with(found.folder):
        return clean_run(found, dry_run=dry_run)


def clean_run(run: FoundRun, *, dry_run: bool) -> str:
    """Remove, or with `dry_run` only list; returns what is to be said about it."""
    before = read_device_usage()
    files = [path for folder in run.stage_folders() for path in removable(folder)]
    files += sorted(run.folder.glob(f"*{STALE_SUFFIX}"))
    sizes = {path: path.stat().st_size for path in files}
    if not dry_run:
        for path in files:
            _remove(path)
        if before is not None:
            release_cached(torch.device("cuda", 0))
    verb = "would remove" if dry_run else "removed"
    lines = [f"{verb} {path} ({bytes_text(size)})" for path, size in sizes.items()]
    total = f"{verb} {len(files)} files, {bytes_text(sum(sizes.values()))}"
    return "\n".join([*lines, total, _memory(before)])


def removable(folder: StageFolder) -> list[Path]:
    """Files a stage does not need: temporaries and old bests; once it is finished also `previous`
    and its teacher's logits.
    """
    found = sorted(folder.root.rglob(f"*{STALE_SUFFIX}"))
    best = find_best(folder)
    if best is not None:
        found += superseded(folder, best[0])
    if read_result(folder) is not None:
        found += [path for path in (folder.previous,) if path.exists()]
        found += logits_files(folder.root)
    return found


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot remove {path} ({error.strerror}).") from error


def _memory(before: int | None) -> str:
    after = read_device_usage()
    if before is None or after is None:
        return "GPU memory: no CUDA device here"
    return f"GPU memory in use: {bytes_text(before)} before, {bytes_text(after)} after"
