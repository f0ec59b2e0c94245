"""Nothing half-written is ever left behind."""

import contextlib
import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distill.base.errors import DistillError, RunFailed, UserError
from distill.base.files import append_line, check_output, not_written, write_text, write_whole
from distill.base.reading import read_lines
from tests.nodes import FULL, NULL, bound_socket, device, loop, pipe, small_disk, within


def test_a_failing_writer_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(stream: object) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_want_of_room_and_want_of_access_have_cures_of_their_own() -> None:
    full = not_written(Path("file"), OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(full, RunFailed) and "make room" in str(full)
    denied = not_written(Path("file"), PermissionError(errno.EACCES, "Permission denied"))
    assert isinstance(denied, UserError)
    assert "give yourself write access" in str(denied) and "make room" not in str(denied)


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


def test_a_link_stays_one_and_its_target_is_replaced(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "profile").write_text("old")
    (tmp_path / "link").symlink_to("shared/profile")
    (tmp_path / "second").symlink_to("link")
    write_text(tmp_path / "second", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "second").is_symlink()
    assert (shared / "profile").read_text() == "new"
    assert [left.name for left in shared.iterdir()] == ["profile"]


def test_a_link_to_nothing_yet_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("shared/profile")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "shared" / "profile").read_text() == "new"


@pytest.mark.parametrize("write", [write_text, append_line])
def test_what_is_neither_file_nor_stream_is_refused_and_left_as_it_was(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    places = {
        "it is a folder": tmp_path,
        "it is a socket": bound_socket(tmp_path / "socket"),
        "Too many levels of symbolic links": loop(tmp_path / "loop"),
        "File name too long": tmp_path / ("n" * 300),
    }
    kinds = {path: path.lstat().st_mode for path in tmp_path.iterdir()}
    for words, path in places.items():
        with pytest.raises(UserError, match=rf"Cannot write to .*{words}.*Name another file"):
            check_output(path)
        with pytest.raises(UserError, match=rf"Cannot write to .*{words}.*Name another file"):
            write(path, "text")
    assert {path: path.lstat().st_mode for path in tmp_path.iterdir()} == kinds


@pytest.mark.parametrize("write", [write_text, append_line])
def test_a_pipe_gets_what_is_written_and_stays_a_pipe(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    path, text = pipe(tmp_path / "pipe"), "x" * 200_000  # more than a pipe holds
    with within(20), ThreadPoolExecutor(1) as reader:
        read = reader.submit(_read_some, path, len(text))
        while True:
            with contextlib.suppress(UserError, RunFailed):  # until the reader is there
                write(path, text)
                break
        assert text.encode() in read.result()
    assert path.is_fifo()


def _read_some(path: Path, at_least: int) -> bytes:
    found = b""
    with path.open("rb", buffering=0) as stream:
        while len(found) < at_least:
            found += stream.read(at_least)
    return found


@pytest.mark.parametrize("write", [write_text, append_line])
def test_a_pipe_that_nobody_reads_from_is_one_sentence(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    path = pipe(tmp_path / "pipe")
    with within(5), pytest.raises(DistillError, match="nobody reads from that pipe"):
        write(path, "text")
    assert path.is_fifo()


@pytest.mark.parametrize("write", [write_text, append_line])
def test_a_device_is_written_to_and_stays_one(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    write(device(tmp_path / "null", NULL), "text")
    with pytest.raises(RunFailed, match="No space left on device"):
        write(device(tmp_path / "full", FULL), "text")
    assert all(path.is_char_device() for path in tmp_path.iterdir())


def test_an_open_file_by_its_number_is_written_on_where_it_stands(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as stream:
        stream.write("before\n")
        stream.flush()
        write_text(Path(f"/proc/self/fd/{stream.fileno()}"), "text\n")
        (tmp_path / "link").symlink_to(f"/dev/fd/{stream.fileno()}")
        append_line(tmp_path / "link", 1)
        stream.write("after\n")
    assert (tmp_path / "file").read_text() == "before\ntext\n1\nafter\n"


def test_a_name_as_long_as_a_name_may_be_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("ä" * 127), "text")
    assert (tmp_path / ("ä" * 127)).read_text() == "text"


@pytest.mark.parametrize("write", [write_text, append_line])
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    disk = small_disk(tmp_path / "disk")
    write(disk / "file", "old")
    before = (disk / "file").read_bytes()
    with pytest.raises(RunFailed, match=r"Cannot write .* \(No space left on device\).*make room"):
        write(disk / "file", "x" * 200_000)
    assert (disk / "file").read_bytes()[: len(before)] == before
    assert [left.name for left in disk.iterdir()] == ["file"]
