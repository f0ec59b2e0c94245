"""What the canary names, and what it takes as known; recordings are in the tests beside."""

from tests.driver.canary import CUBLAS_BYTES, HEADING, Moved, _request, moved_rows, named_for

PAGE = f"""# Trust

| 2.15 | `not here` |

{HEADING}

| torch | moved |
|---|---|
| 2.12.1 | nothing |
| 2.15 | `cublas workspace`, and `native segments` too |

## Another part

| 2.15 | `nor here` |
"""


def test_a_patch_release_is_known_by_the_row_of_its_minor_release() -> None:
    assert named_for("2.15.1", PAGE) == {"cublas workspace", "native segments"}


def test_a_row_without_names_or_no_row_knows_nothing() -> None:
    for release in ("2.12.0", "2.1.5", "2.16.0"):
        assert named_for(release, PAGE) == set()


def test_a_workspace_is_named_for_its_row_and_another_request_for_its_op() -> None:
    assert _request("not predicted", "aten.mm.default", CUBLAS_BYTES, "a").name == (
        "cublas workspace"
    )
    assert _request("not predicted", "aten.mm.default", 24, "a") == Moved(
        "aten.mm.default", "not predicted: 24 B", "a"
    )


def test_one_row_a_name_tells_how_and_in_how_many_configurations() -> None:
    found = [Moved("x", f"not predicted: {n} B", "first") for n in range(6)]
    rows = moved_rows([*found, Moved("x", "not predicted: 0 B", "second"), Moved("w", "y", "z")])
    assert [row["moved"] for row in rows] == ["`w`", "`x`"]
    assert rows[1]["how"].endswith("not predicted: 3 B; 2 more")
    assert rows[1]["configurations"] == "2"
