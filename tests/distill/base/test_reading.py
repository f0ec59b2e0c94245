"""What is no plain file, or no document, is one sentence and never a wait."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distill.base.errors import UserError
from distill.base.reading import MOST_DEPTH, open_plain, parsed_json, read_json, read_lines
from tests.nodes import odd_things, within


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_what_is_no_plain_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    for words, path in odd_things(tmp_path):
        with within(5), pytest.raises(UserError, match=words):
            read_json(path, "profile")
        with within(5), pytest.raises(UserError, match=f"Cannot read journal .*{words}"):
            read_lines(path)


def test_a_name_that_no_file_can_have_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        open_plain(tmp_path / "a\0b")


def test_a_name_that_is_not_utf_8_is_a_name(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))
    path.write_text("[1]")
    assert read_json(path) == [1]
    path.write_text("[1")
    with pytest.raises(UserError, match="is not JSON"):
        read_json(path)


def test_a_link_to_a_plain_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("[1]")
    (tmp_path / "link").symlink_to("file")
    assert read_json(tmp_path / "link") == [1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        (nested(MOST_DEPTH + 1), f"is nested more than {MOST_DEPTH} deep"),
        (nested(1000), "is nested more than 32 deep"),
        (nested(100_000), "is nested more than 32 deep"),
        ('{"a":' * 40 + "1" + "}" * 40, "is nested more than 32 deep"),
        ("9" * 5000, "is not JSON: Exceeds the limit"),
        (str(10**400), "holds 10{39}…, a whole number of more than 64 bits"),
        (str(2**63), "holds 9223372036854775808, a whole number of more than 64 bits"),
        ("1e400", "holds inf, which is no number"),
        ("[1, [-Infinity]]", "holds 1.0 = -inf, which is no number"),
        ('{"a": {"b": NaN}}', "holds a.b = nan, which is no number"),
        ('{"a": "\\ud800"}', r"holds a = '\\ud800', half of a character"),
        ('{"\\udc80": 1}', r"holds '\\udc80', half of a character"),
    ],
)
def test_what_no_file_of_ours_holds_is_refused_with_its_reason(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed_json(text)


@pytest.mark.parametrize(
    "document", [None, True, -(2**63), 2**63 - 1, 0.5, "ä€", [[]], {"a": [1, {"ü": "\U0001f600"}]}]
)
def test_what_a_file_may_hold_is_handed_on(document: Any) -> None:
    assert parsed_json(json.dumps(document)) == document
    assert parsed_json(nested(MOST_DEPTH))


def test_text_that_is_not_utf_8_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match=r"Profile .*file is no text in UTF-8"):
        read_json(tmp_path / "file", "profile")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(UserError, match=r"larger than 64.0 MiB"):
        read_json(path)
    with pytest.raises(UserError, match=r"larger than 256.0 MiB"):
        read_lines(path)


def test_lines_of_a_journal_that_are_no_documents_are_left_out(tmp_path: Path) -> None:
    lines = [b'{"n": 1}', nested(1000).encode(), b"9" * 5000, b"\xff", b'"\\ud800"', b'{"n": 2']
    (tmp_path / "journal").write_bytes(b"\n".join(lines))
    assert read_lines(tmp_path / "journal") == ([{"n": 1}], 5)


def test_a_line_ends_at_a_line_feed_only(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text('"a\u2028b\x85c"\n', encoding="utf-8")
    assert read_lines(tmp_path / "journal") == (["a\u2028b\x85c"], 0)
