"""A path from a file or a command line as a whole one, whatever is written there."""

import contextlib
import os
from pathlib import Path

from distill.base.errors import UserError


def whole_path(text: str | Path) -> Path:
    """The path from the root, links followed; one that leads round in circles stays as it is.

    Raises `UserError` for what can't be a path.
    """
    try:
        path = Path(os.path.realpath(text))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()
    except (ValueError, OSError) as error:  # NUL in it, or a name that is too long
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{str(text)[:80]!a} can't be a path: {reason}. Write another.") from error
    return path


def text_path(text: str | Path) -> str:
    """The same as text that a file can hold; `UserError` where it is none."""
    path = whole_path(text)
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"The path {str(path)!a} is not UTF-8. Rename that file or folder."
        ) from error
    return str(path)
