"""Commands as real processes that need not load torch again: one process has it, and forks.

`forked` is `subprocess.run` for `python -m bench …` and `python -m distill …`. What comes is a
process of its own, with its folder, environment, streams and exit status; only that the modules
are loaded already is not as a user has it. Where loading, or a signal, is what a test is about,
it starts a fresh process.
"""

import atexit
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
BESIDE = (
    "matplotlib.backends.backend_agg",
    "scipy.signal",
    "sklearn.datasets",
    "timm",
    "torch._dynamo",
    "torchmetrics.classification",
)
"""What a command loads on its way, beside the modules of this project and what they name."""


def forked(
    module: str,
    *arguments: str | Path,
    cwd: Path | None = None,
    timeout: float = 300,
    environment: Mapping[str, str] = os.environ,
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ARGUMENTS…` to its end in a fork, which has no standard input."""
    with tempfile.TemporaryDirectory(prefix="forked-") as folder:
        streams = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        status = SERVER.run(
            {
                "module": module,
                "arguments": [str(argument) for argument in arguments],
                "cwd": str(cwd or Path.cwd()),
                "environment": dict(environment) | {"PYTHONPATH": str(ROOT)},
                "streams": streams,
            },
            timeout,
        )
        said = [Path(stream).read_text(errors="surrogateescape") for stream in streams]
    return subprocess.CompletedProcess([module, *map(str, arguments)], status, *said)


def forked_ranks(
    count: int,
    *arguments: str | Path,
    cwd: Path,
    timeout: float = 300,
    environment: Mapping[str, str] = os.environ,
    signalled: tuple[int, signal.Signals, Path] | None = None,
    one_more: tuple[int, tuple[str, ...]] = (0, ()),
) -> "list[subprocess.CompletedProcess[str]]":
    """Run `python -m distill ARGUMENTS…` in so many processes at once, as `torchrun` does.

    With `signalled` one of them gets a signal once a file is there, with `one_more` one of them
    more arguments.
    """
    with tempfile.TemporaryDirectory(prefix="forked-") as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        streams = [[str(Path(folder, f"{name}{rank}")) for name in ("stdout", "stderr")]
                   for rank in range(count)]  # fmt: skip
        statuses = Path(folder, "statuses")
        SERVER.run(
            {
                "module": "distill",
                "arguments": [str(argument) for argument in arguments],
                "cwd": str(cwd),
                "environment": dict(environment)
                | {"PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
                "ranks": streams,
                "statuses": str(statuses),
                "one_more": one_more,
                "signalled": signalled and [*signalled[:2], str(signalled[2])],
            },
            timeout,
        )
        return [
            subprocess.CompletedProcess(
                ["distill", *map(str, arguments)],
                status,
                *(Path(stream).read_text(errors="surrogateescape") for stream in pair),
            )
            for status, pair in zip(json.loads(statuses.read_text()), streams, strict=True)
        ]


class Server:
    """The process that forks, started when the first command is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, request: dict[str, Any], timeout: float) -> int:
        """The exit status; negative for a signal, as `subprocess` has it."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,  # a line that is read ahead would not be waited for
                start_new_session=True,
            )
            atexit.register(self.stop)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        child = int(self._process.stdout.readline())
        late = not select.select([self._process.stdout], [], [], timeout)[0]
        if late:
            os.killpg(child, signal.SIGKILL)
        status = int(self._process.stdout.readline())
        if late:
            raise subprocess.TimeoutExpired(request["arguments"], timeout)
        return status

    def stop(self) -> None:
        """End it; it waits for nothing."""
        if self._process is not None:
            self._process.communicate()


SERVER = Server()


def load() -> None:
    """Every module of both packages, and what they load later."""
    for package in ("bench", "distill"):
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    for name in BESIDE:
        importlib.import_module(name)


def serve() -> dict[str, Any] | None:
    """Fork for each request. Returns in each fork with its request, and at the end with none."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            return dict(json.loads(line))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(child, child)  # so that it can be ended at once
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def become_one_of(request: dict[str, Any]) -> None:
    """Fork once more for each rank; returns in each of them, and waits for them here."""
    children = []
    for rank, streams in enumerate(request["ranks"]):
        child = os.fork()
        if child == 0:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(request["ranks"])}
            request["environment"] |= {name: str(value) for name, value in place.items()}
            request["streams"] = streams
            if rank == request["one_more"][0]:
                request["arguments"] += request["one_more"][1]
            return
        children.append(child)
    if request["signalled"] is not None:
        rank, number, path = request["signalled"]
        while not os.path.lexists(path):
            time.sleep(0.01)
        os.kill(children[rank], number)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    Path(request["statuses"]).write_text(json.dumps(ends))
    os._exit(0)


def become(request: dict[str, Any]) -> NoReturn:
    """The command, in its folder and environment."""
    if "ranks" in request:
        become_one_of(request)
    null = os.open(os.devnull, os.O_RDONLY)
    out, err = (
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in request["streams"]
    )
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["module"], *request["arguments"]]
    context = multiprocessing.get_context  # its workers need not load torch again either
    multiprocessing.get_context = lambda method=None: context("fork" if method else None)
    status: object = 1
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as leaving:
        status = leaving.code or 0
    except BaseException:  # noqa: BLE001 - the process ends here, and says why
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status if isinstance(status, int) else 1)  # half a second to take all modules apart


if __name__ == "__main__":
    load()
    gc.freeze()
    wanted = serve()
    if wanted is not None:
        become(wanted)
