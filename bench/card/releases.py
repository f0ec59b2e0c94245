"""What is said of a torch that no card has recorded with. No torch."""

from importlib.metadata import version

from bench.simulate.torch_rules import BY_RELEASE

RECORDED = "2.11"
"""The locked release, with which cards recorded."""

TRIED = {
    "2.12": "2.12.1 reserved up to 40 MiB less than is predicted, in one 60 MiB more",
    "2.13": "2.13.0 reserved up to 2 MiB less than is predicted, never more",
    "2.14": "2.14.1 reserved up to 2 MiB less than is predicted, never more",
    "2.15": "2.15.0 reserved up to 2 MiB less than is predicted, never more",
}
"""What is known of a release from 51 runs without a GPU, by its row in docs/prediction.md."""


def release_notes(torch: str | None = None) -> list[str]:
    """One line where the installed torch, or the one named, is not that of the recordings."""
    torch = version("torch") if torch is None else torch
    minor = ".".join(torch.split("+")[0].split(".")[:2])
    if minor == RECORDED:
        return []
    if minor in TRIED:
        words = (
            f"torch {torch} is installed, predicted by its own rules: no card has recorded with "
            f"it; in 51 runs without a GPU {TRIED[minor]}"
        )
    else:
        last = "{}.{}".format(*max(BY_RELEASE))
        words = f"torch {torch} is installed, which was not tried: predicted by the rules of {last}"
    return [f"{words} (docs/prediction.md, Other releases of torch)."]
