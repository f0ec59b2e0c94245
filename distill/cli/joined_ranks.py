"""The processes of a run brought together, from what `torchrun` set in the environment.

One of them speaks, and what ends one of them is told once. `torchrun` starts them again where it
was asked to (`--max-restarts`).
"""

import os
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from distill.base.errors import DistillError, RunFailed, UserError
from distill.base.launched import launched_processes, silent
from distill.run.request import pick_device
from distill.train.ranks import ALONE, Ranks

WAITING = timedelta(days=30)
"""One may decode images or draw pictures for hours; where one ends, the others hear of it."""

MEETING = timedelta(minutes=10)
"""The longest that processes wait for each other at their start: each has only loaded torch."""

POLL_SECONDS = 0.02

LOST_WORDS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""What the libraries say when another process has gone."""

UNUSED_WORDS = "Expected to have finished reduction in the prior iteration"
"""What the reducer says at the second update where a weight had no gradient in the first."""


@contextmanager
def ranks_joined(wanted_device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """This process among those of the run, and its device; alone where no launcher started it.

    Raises `RunFailed` when another process has ended, `UserError` where they can't meet.
    """
    count = launched_processes()
    if count == 1:
        yield ALONE, pick_device(wanted_device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    store = _store_of_this_start(rank, count)
    with ExitStack() as stack:
        stack.enter_context(_told_once(store))
        if rank:
            stack.enter_context(silent())
        device = pick_device(wanted_device, local)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=PrefixStore("ranks", store), rank=rank, world_size=count
        )
        group = dist.new_group(backend="gloo", timeout=WAITING)
        yield Ranks(rank=rank, world_size=count, group=group), device
        dist.destroy_process_group()


def _store_of_this_start(rank: int, count: int) -> Store:
    """What the processes started at this time say to each other, once all of them are here."""
    try:
        store, _, _ = next(rendezvous("env://", timeout=MEETING))
        return PrefixStore(_name_of_this_start(store, rank, count), store)
    except (RuntimeError, ValueError, TimeoutError) as error:
        raise UserError(
            f"Process {rank} of {count} can't meet the others at {os.environ['MASTER_ADDR']} port "
            f"{os.environ['MASTER_PORT']} ({_in_a_line(error)}). Start them with torchrun; why one "
            "did not come is told where it was started."
        ) from error


def _name_of_this_start(store: Store, rank: int, count: int) -> str:
    """A name that only the processes started at this time have.

    The launcher's store outlives processes that it starts again, and holds what those before them
    wrote (torch/distributed/elastic/rendezvous, 2.11); starts are counted by each machine for
    itself. So each process but the leading one leaves a mark, and is told the name in answer to it.
    """
    mine = uuid.uuid4().hex
    if rank:
        store.set(f"here/{rank}", mine)
        name: str = store.get(f"name/{mine}").decode()
        store.set(f"heard/{name}/{rank}", "")
        return name
    end = time.monotonic() + MEETING.total_seconds()
    for other in range(1, count):
        answered = None
        while not store.check([f"heard/{mine}/{other}"]):
            mark = store.get(f"here/{other}").decode()
            if mark != answered:  # the first may be of a process that is gone
                store.set(f"name/{mark}", mine)
                answered = mark
            if time.monotonic() > end:
                raise TimeoutError(f"process {other} does not answer")
            time.sleep(POLL_SECONDS)
    return mine


def is_started_again() -> bool:
    """True if the launcher started these processes before, and one of them failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def _told_once(store: Store) -> Iterator[None]:
    """Let the first process that something ends tell it; the others end without a word."""
    try:
        yield
    except DistillError as error:
        if not _is_first(store):
            raise SystemExit(error.exit_code) from error
        raise
    except RuntimeError as error:
        is_first = _is_first(store)
        if UNUSED_WORDS in str(error):
            raise RunFailed(
                "The student has weights that no update learns, which processes can't share. Train "
                "it in one process, without torchrun."
            ) from error
        if not any(word in str(error) for word in LOST_WORDS):
            raise
        if not is_first:
            raise SystemExit(RunFailed.exit_code) from error
        raise RunFailed(
            "Another process of this run has ended. What was saved is kept; the same command goes "
            "on from there, as torchrun's --max-restarts does by itself."
        ) from error
    except Exception:
        _is_first(store)
        raise


def _is_first(store: Store) -> bool:
    """True for the first process that asks; where the store is gone, what holds it has told."""
    try:
        return bool(store.add("told", 1) == 1)
    except RuntimeError:
        return False


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
