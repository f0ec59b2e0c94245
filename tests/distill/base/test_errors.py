"""What a failure says: a line, whatever it quotes, and a line for each thing that it lists."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from distill.base.errors import MOST_OF_A_LINE, UserError


@given(st.text(max_size=3 * MOST_OF_A_LINE), st.lists(st.text(), max_size=3))
def test_any_quotation_is_a_line_that_a_terminal_only_shows(quoted: str, listed: list[str]) -> None:
    lines = str(UserError(f"Bad: {quoted}.", *listed)).split("\n")
    assert len(lines) == 1 + len(listed)
    assert all(line.isprintable() and len(line) <= MOST_OF_A_LINE + 3 for line in lines)


def test_of_a_line_that_is_too_long_the_beginning_and_the_cure_are_kept() -> None:
    words = str(UserError(f"Recipe {'x' * 10_000} is not known. Name another."))
    assert words.startswith("Recipe xxx")
    assert words.endswith("xxx is not known. Name another.")


def test_what_a_terminal_would_obey_is_an_escape() -> None:
    assert str(UserError("stage a\nb\x1b[2J", "é")) == r"stage a\nb\x1b[2J" + "\n  é"


def test_a_failure_in_another_process_says_the_same() -> None:
    error = UserError("Two problems:", "one", "two")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
