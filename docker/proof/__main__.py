"""Proves the container files: parses, calls and prints. What was not proven is listed too.

Refuses to guess: where the image cannot be built and run it says so in one line that begins with
SKIP and leaves with 0; a proof that fails leaves with 1.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import breaks
import engine
import image
import static
from shell import Failed, Stopped, stop_on_term
from tools import Tools

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """The exit code: 0 proven or skipped, 1 a proof failed."""
    parser = argparse.ArgumentParser(prog="docker/check", description=__doc__)
    parser.add_argument("--static", action="store_true", help="linters and configuration only")
    parser.add_argument("--here", action="store_true", help="use this machine's engine and base")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the files to look at")
    arguments = parser.parse_args()
    tree = arguments.tree.resolve()
    stop_on_term()
    try:
        tools = Tools.installed(ROOT / "build" / "docker-tools", ROOT / "docker" / "tools.lock")
        table = Table()
        for name, proof in static.PROOFS.items():
            table.prove(name, partial(proof, tree, tools))
        if not arguments.static:
            lacking = None if arguments.here else engine.lacking()
            if lacking is not None:
                print(f"SKIP the image was not built: {lacking}")
                return 0
            _prove_image(tree, tools, table, here=arguments.here)
            table.print()
    except Failed as failure:
        print(f"FAILED {failure}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"Stopped by {stopped}; nothing is left running.", file=sys.stderr)
        return 143
    return 0


def _prove_image(tree: Path, tools: Tools, table: "Table", *, here: bool) -> None:
    """Build and run the image in a folder of its own that is gone afterwards."""
    work = Path(tempfile.mkdtemp(prefix="container-", dir="/var/tmp"))
    try:
        with engine.running_engine(work, tools, here=here) as docker:
            trial = image.Trial.prepared(work, tree, docker)
            try:
                for name, proof in image.PROOFS.items():
                    table.prove(name, partial(proof, trial))
                for name, attempt in breaks.BREAKS.items():
                    table.prove(name, partial(attempt, trial))
            finally:
                trial.remove()
            print(f"disk at its fullest: {docker.disk.peak_bytes / 2**30:.1f} GiB")
        table.not_proven += image.not_proven(docker)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if work.exists():
        raise Failed(f"{work} could not be removed")


class Table:
    """What was proven, with how long it took and what it came to."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, str]] = []
        self.not_proven: list[str] = []

    def prove(self, name: str, proof: Callable[[], str]) -> None:
        """Run one proof; `Failed` goes on up with the proof's name."""
        began = time.monotonic()
        try:
            found = proof()
        except Failed as failure:
            raise Failed(f"{name}: {failure}") from failure
        seconds = time.monotonic() - began
        self.rows.append((name, seconds, found))
        print(f"  {name}  {seconds:.1f} s  {found}", flush=True)

    def print(self) -> None:
        """The whole log in short."""
        print("\n| what | proven | seconds | found |\n|---|---|--:|---|")
        for name, seconds, found in self.rows:
            print(f"| {name} | yes | {seconds:.1f} | {found} |")
        for name in self.not_proven:
            print(f"| {name} | NO | | not shown by this check |")


if __name__ == "__main__":
    sys.exit(main())
