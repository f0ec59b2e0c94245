"""Children that need not import torch again: a server imports it once and forks for each job.

    client   `ForkServer`, in the process that asks; used like any other runner
    server   `python -m bench.measure.forkserver MODULE`: imports, forks, waits, reports

The server never touches CUDA, so each child makes a context of its own. Importing torch may load
the driver's library, so a first fork tries that. Where it can't, or where there is no fork, the
server says so and the client starts a new process each time instead. The server's environment,
with the pins in it, is fixed before torch is loaded.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, cast

from bench.measure.child import pin_environment
from bench.measure.isolate import (
    KEPT_STDERR,
    TRIAL_CHILD,
    Ended,
    Runner,
    scrubbed,
    spawned,
)
from distill.base.children import child_group, end_group
from distill.base.parent_death import end_with_parent, end_with_pipe
from distill.base.signals import ASKING, default_signals, halt_if_leaving, undone_at_once
from distill.device.driver import driver_device_exists
from distill.spec.candidate import Allocator
from distill.spec.pins import set_environment

START_SECONDS = 300.0
CONTEXT_SECONDS = 60.0
POLL_SECONDS = 0.05


class ChildModule(Protocol):
    """A module whose work can be forked."""

    def preload(self) -> None:
        """Import what a job needs, and touch no device."""

    def work(self, job_path: Path, result_path: Path) -> None:
        """Do one job."""


class ForkServer:
    """A runner (see `isolate`) whose children are forks of one process that has torch loaded.

    Use it in a `with`; it starts at the first job. `fallback` runs a job that it can't; `threads`
    is how many a child may take.
    """

    def __init__(
        self,
        *,
        allocator: Allocator,
        module: str = TRIAL_CHILD,
        fallback: Runner | None = None,
        start_seconds: float = START_SECONDS,
        threads: int | None = None,
    ) -> None:
        self._environment = dict(os.environ)
        set_environment(allocator=allocator, deterministic=False, environment=self._environment)
        if threads is not None:  # children side by side would take all cores each
            self._environment["OMP_NUM_THREADS"] = str(threads)
        self._module = module
        self._fallback = fallback or spawned(module)
        self._start_seconds = start_seconds
        self._server: subprocess.Popen[bytes] | None = None
        self._until_stopped = ExitStack()
        self._left = b""
        self.unfit: str | None = None

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def __call__(self, job_path: Path, result_path: Path, time_limit_seconds: float) -> Ended:
        """Run one job in a fork, or by the fallback where forking is not possible."""
        if self.unfit is None and self._server is None:
            asked = self._start()
            if asked is not None:
                return Ended(asked, "")
        if self.unfit is not None or self._server is None:
            return self._fallback(job_path, result_path, time_limit_seconds)
        said_path = job_path.with_suffix(".stderr")
        said_path.touch()
        request = [str(job_path), str(result_path), str(said_path)]
        status, answered = self._ask(request, time_limit_seconds)
        halt_if_leaving()
        said = said_path.read_bytes()[-KEPT_STDERR:]
        said_path.unlink()
        if not answered:
            asked = self._stop()
            if asked is not None:
                return Ended(asked, "")
            return self._fallback(job_path, result_path, time_limit_seconds)
        return Ended(status, scrubbed(said))

    def _start(self) -> int | None:
        """Start the server. The status of one that was asked to stop meanwhile, else `None`."""
        if not hasattr(os, "fork"):
            self.unfit = "no fork on this system"
            return None
        command = [sys.executable, "-m", "bench.measure.forkserver", self._module]
        self._server = self._until_stopped.enter_context(
            child_group(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                environment=self._environment,
            )
        )
        answer = self._receive(self._start_seconds)
        asked = None
        if answer is None or answer.get("unfit"):
            asked = self._stop()
            self.unfit = "the server did not start" if answer is None else str(answer["unfit"])
        return asked

    def _ask(self, request: list[str], time_limit_seconds: float) -> tuple[int | None, bool]:
        """The child's exit status (`None`: out of time), and whether the server answered."""
        assert self._server is not None and self._server.stdin is not None
        try:
            self._server.stdin.write(json.dumps(request).encode() + b"\n")
            self._server.stdin.flush()
        except BrokenPipeError:
            return None, False
        begun = self._receive(START_SECONDS)
        if begun is None:
            return None, False
        end = partial(end_group, begun["pid"])
        try:
            with undone_at_once(end):
                ended = self._receive(time_limit_seconds)
        finally:
            end()
        if ended is not None:
            return int(ended["status"]), True
        return None, self._receive(START_SECONDS) is not None

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """The server's next line; `None` when it does not come or the server is gone."""
        assert self._server is not None and self._server.stdout is not None
        deadline = time.monotonic() + seconds
        handle = self._server.stdout.fileno()
        while b"\n" not in self._left:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([handle], [], [], wait)[0]:
                return None
            part = os.read(handle, 4096)
            if not part:
                return None
            self._left += part
        line, self._left = self._left.split(b"\n", 1)
        document: dict[str, Any] = json.loads(line)
        return document

    def _stop(self) -> int | None:
        """End the server. Its status if a signal had asked it to stop before, else `None`."""
        status = None
        if self._server is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._server.wait(POLL_SECONDS)
        self._until_stopped.close()
        self._server, self._left = None, b""
        return status if status is not None and -status in ASKING else None


def serve(module: str) -> None:
    """Fork for each job on stdin until stdin ends; then it has no client, and ends at once."""
    end_with_parent()
    out = os.dup(1)
    os.dup2(2, 1)
    worker = cast(ChildModule, importlib.import_module(module))
    worker.preload()
    _tell(out, {"unfit": _why_unfit()})
    pending = b""
    while part := os.read(0, 65536):
        pending += part
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            _serve_one(worker, json.loads(line), out)


def _serve_one(worker: ChildModule, request: list[str], out: int) -> None:
    held, holding = os.pipe()  # this process holds it open: the child ends with it
    child = os.fork()
    if child == 0:
        os.close(out)
        os.close(holding)
        _be_child(worker, request, held)
    os.close(held)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    _tell(out, {"pid": child})
    _tell(out, {"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])})
    os.close(holding)


def _be_child(worker: ChildModule, request: list[str], held: int) -> NoReturn:
    """Run the job and leave, without anything that the server would have to clean up."""
    job_path, result_path, stderr_path = request
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    end_with_pipe(held)
    silence = os.open(os.devnull, os.O_RDWR)
    said = os.open(stderr_path, os.O_WRONLY | os.O_APPEND)
    for source, target in ((silence, 0), (silence, 1), (said, 2)):
        os.dup2(source, target)
    default_signals()
    try:
        pin_environment(Path(job_path))
        worker.work(Path(job_path), Path(result_path))
    except BaseException:  # noqa: BLE001 - the process ends here, and says why
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _why_unfit() -> str | None:
    """A CUDA state would survive no fork: whether a fork can make one of its own is tried."""
    child = os.fork()
    if child == 0:
        _make_context()
    until = time.monotonic() + CONTEXT_SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "a fork can't make a CUDA context" if status else None
        time.sleep(POLL_SECONDS)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "a fork did not make a CUDA context in time"


def _make_context() -> NoReturn:
    """End with 0 if a context could be made, or there is no device to make one on."""
    status = 1
    try:
        import torch  # the server must have it by now; a server without torch makes no context

        if torch.cuda.is_available():
            torch.cuda.mem_get_info(0)
            status = 0
        elif not driver_device_exists():
            status = 0  # no device to make one on
    finally:
        os._exit(status)


def _tell(out: int, document: dict[str, Any]) -> None:
    os.write(out, json.dumps(document).encode() + b"\n")


if __name__ == "__main__":
    serve(sys.argv[1])
