"""Releases of torch held against the rules that predict, which are those of 2.11. No torch."""

from importlib.metadata import version

RULES_OF = "2.11"

MOVED = {
    "2.12": "2.12.1 reserved up to 4 MiB less than that, in one 18 MiB more",
    "2.13": "2.13.0 reserved up to 4 MiB less than that, never more",
    "2.14": "2.14.1 reserved up to 4 MiB less than that, never more",
    "2.15": "2.15.0 reserved up to 62 MiB less than that, in one 20 MiB more",
}
"""What is known of a release from 50 runs without a GPU, by its row in docs/prediction.md."""


def release_notes(torch: str | None = None) -> list[str]:
    """One line where the installed torch, or the one named, is not the release of the rules."""
    torch = version("torch") if torch is None else torch
    minor = ".".join(torch.split("+")[0].split(".")[:2])
    if minor == RULES_OF:
        return []
    known = f"In 50 runs without a GPU {MOVED[minor]}" if minor in MOVED else "It was not tried"
    return [
        f"Predicted by the rules of torch {RULES_OF}; {torch} is installed. {known}: "
        "docs/prediction.md, Other releases of torch."
    ]
