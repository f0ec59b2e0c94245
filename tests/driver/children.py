"""Processes that take the stub driver for a GPU; each ends before its caller."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.driver.build import environment


def under_driver(
    library: Path,
    *arguments: str,
    device_bytes: int,
    folder: Path = ROOT,
    finite: bool = False,
    **more: str,
) -> str:
    """What Python prints when it is started so; `more` goes into its environment.

    Raises `RuntimeError`, with the end of what it said, where it fails.
    """
    child = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(library, device_bytes, finite=finite) | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if child.returncode:
        raise RuntimeError(child.stderr[-3000:])
    return child.stdout


def answers(
    library: Path, module: str, folder: Path, requests: Sequence[Sequence[Any]], device_bytes: int
) -> list[str]:
    """What a module leaves for each request, all in one process that forks.

    The module is given a JSON list of requests, each with the file for its answer before it.
    Raises `RuntimeError` where one is left without an answer.
    """
    outs = [folder / f"answer-{number}.json" for number, _ in enumerate(requests)]
    asked = folder / "requests.json"
    asked.write_text(
        json.dumps([[str(out), *request] for out, request in zip(outs, requests, strict=True)])
    )
    under_driver(library, "-m", module, str(asked), device_bytes=device_bytes)
    missing = [request for out, request in zip(outs, requests, strict=True) if not out.exists()]
    if missing:
        raise RuntimeError(f"{module} leaves no answer to {missing}")
    return [out.read_text() for out in outs]
