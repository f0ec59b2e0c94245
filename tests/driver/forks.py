"""Requests answered by forks of one process, which has torch loaded; each its own allocator."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def answer_each(answer: Callable[..., str | None]) -> None:
    """Write what `answer` gives for each request of the file that is the first argument.

    The file is a JSON list of `[OUT, *request]`. OUT is not written where `answer` gives `None`, or
    where it fails, which stderr tells. A fork ends at once: there is no device to tidy up.
    """
    for out, *request in json.loads(Path(sys.argv[1]).read_text()):
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        _answer_and_leave(answer, Path(out), request)


def _answer_and_leave(answer: Callable[..., str | None], out: Path, request: list[Any]) -> None:
    try:
        found = answer(*request)
        if found is not None:
            out.write_text(found)
    except BaseException:  # noqa: BLE001 - the process ends here, and says why
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(0)
