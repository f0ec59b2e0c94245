"""Nothing half-written is ever left behind."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distill.base.errors import UserError
from distill.base.files import append_line, read_lines, write_text, write_whole


def test_a_failing_writer_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(stream: object) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from distill.base.files import write_whole\n"
        "def half(stream):\n"
        "    stream.write(b'new'); stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(Path(sys.argv[1]), half)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_torn_last_line_is_counted_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    append_line(journal, {"n": 1})
    with journal.open("a") as stream:
        stream.write('{"n": 2, "half')
    append_line(journal, {"n": 3})
    assert read_lines(journal) == ([{"n": 1}, {"n": 3}], 1)


def test_a_journal_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none") == ([], 0)


def test_a_place_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write to .*file.*Choose another folder"):
        write_text(tmp_path / "file" / "below", "text")


def test_infinities_never_reach_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        append_line(tmp_path / "journal", {"seconds": float("inf")})
    assert json.dumps(read_lines(tmp_path / "journal")[0]) == "[]"
