"""Tables in a terminal of any width."""

import hypothesis.strategies as st
from hypothesis import given

from distill.report.text_table import text_table

HEADS = ["stage", "model", "parameters", "accuracy % ± s.e.", "peak MiB"]
BODY = [
    ["teacher", "vit_tiny_patch16_224 (2 patch, 6 deep, 128 wide)", "1.19 M", "96.10 ± 1.02", "–"],
    ["student", "vit_tiny", "202.2 k", "9.94 ± 0.91", "12,345"],
]
ALIGNS = ["left", "left", "right", "right", "right"]


def test_a_table_is_as_wide_as_it_is_where_no_terminal_shows_it():
    heading, rule, *lines = text_table(HEADS, BODY, ALIGNS, None).splitlines()
    assert heading.split() == " ".join(HEADS).split()
    assert len(rule) > 80 and len(lines) == 2


def test_words_are_wrapped_and_numbers_are_not():
    shown = text_table(HEADS, BODY, ALIGNS, 80)
    assert max(map(len, shown.splitlines())) <= 80
    assert "96.10 ± 1.02" in shown and "12,345" in shown
    assert "\n\n" not in shown


def test_what_no_wrapping_makes_fit_comes_in_parts_that_begin_with_the_first_column():
    parts = text_table(HEADS, BODY, ALIGNS, 40).split("\n\n")
    assert len(parts) == 2
    assert all(part.startswith("stage") and "student" in part for part in parts)
    assert all(len(line) <= 40 for part in parts for line in part.splitlines())


def test_names_are_broken_after_their_marks_and_words_at_blanks():
    body = [["student.blocks.*.mlp.fc1", "a " * 20, "1"]]
    shown = text_table(["module", "words", "A images/s"], body, ["left", "left", "right"], 40)
    assert "blocks.*.mlp." in shown and "A images/s" in shown


@given(
    st.integers(1, 12).flatmap(
        lambda count: st.lists(
            st.lists(st.text("ab1 -_", max_size=30), min_size=count, max_size=count),
            min_size=2, max_size=5,
        )
    ),
    st.integers(40, 90),
)  # fmt: skip
def test_no_letter_is_lost_and_no_line_too_long_at_any_width(lines, columns):
    heads, *body = lines
    shown = text_table(heads, body, ["left"] * len(heads), columns)
    assert max(map(len, shown.splitlines()), default=0) <= columns
    for letter in "ab1_":
        assert shown.count(letter) >= sum(cell.count(letter) for line in lines for cell in line)
