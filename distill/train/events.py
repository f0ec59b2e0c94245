"""The events of a run as lines: for programs (`--json-log`) and for the stage's own record.

One JSON object a line, appended and fsynced. Numbers that are not finite become null.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from distill.base.files import append_line, ensure_folder, unwritable, unwritten, write_text
from distill.base.reading import JOURNAL_BYTES, read_plain
from distill.base.units import MIB
from distill.spec.candidate import StageName
from distill.step.memory import Usage

WHOLE_LINE = re.compile(r"[0-9]{1,9},[0-9]{1,9}(,[0-9.]{0,30}){3}")

Value = int | float | str | None
MEMORY_COLUMNS = ("epoch", "update", "allocated_mb", "reserved_mb", "device_used_mb")


@dataclass(frozen=True, kw_only=True)
class EventLog:
    """Lines of one stage: all of them to `json_log`, if there is one, the rare ones to `record`.

    Of several processes that train together one `writes`.
    """

    stage: StageName
    record: Path
    json_log: Path | None
    writes: bool = True

    def happened(self, event: str, values: Mapping[str, Value], *, keep: bool = False) -> None:
        """Write one line; with `keep` into the stage's record as well."""
        if not self.writes:
            return
        line = {"event": event, "stage": self.stage} | {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        if keep:
            append_line(self.record, line)
        if self.json_log is not None:
            append_line(self.json_log, line)


class MemoryLog:
    """CSV of the device's memory after each update, in MiB; empty cells where there is no GPU.

    Lines at or after (`epoch`, `update`), both from 1, are of work that is now done again, and
    are dropped.
    """

    def __init__(self, path: Path, *, epoch: int, update: int) -> None:
        ensure_folder(path.parent)
        kept = [row for row in _rows(path) if (int(row[0]), int(row[1])) < (epoch, update)]
        write_text(path, "".join(",".join(row) + "\n" for row in [MEMORY_COLUMNS, *kept]))
        self.path = path
        self.stream: IO[str] = path.open("a", encoding="utf-8")

    def write(self, epoch: int, update: int, usage: Usage | None) -> None:
        """Write one line."""
        cells = ["", "", ""]
        if usage is not None:
            sizes = (usage.allocated_bytes, usage.reserved_bytes, usage.device_used_bytes)
            cells = [f"{size / MIB:.2f}" for size in sizes]
        self._do(lambda: self.stream.write(",".join([str(epoch), str(update), *cells]) + "\n"))

    def flush(self) -> None:
        """Hand the lines so far to the system."""
        self._do(self.stream.flush)

    def close(self) -> None:
        """Close the file."""
        self._do(self.stream.close)

    def _do(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            raise unwritten(self.path, error) from error


def _rows(path: Path) -> list[list[str]]:
    """The whole lines that are there; what is none, as a torn last one, is left out."""
    try:
        text = read_plain(path, JOURNAL_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unwritable(path, error, cure="Remove it.") from error
    return [line.split(",") for line in text.splitlines() if WHOLE_LINE.fullmatch(line)]
