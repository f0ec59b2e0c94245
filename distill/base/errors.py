"""The failures that a user can cure, each with its exit code.

    DistillError            one clear sentence, never a traceback
    ├── UserError       2   an argument, or a file that the user named
    ├── NoDeviceError   3   a GPU was demanded and there is none
    ├── NoSafeChoice    4   a stage has no configuration that fits
    ├── ProfileMismatch 6   the profile is not this machine's
    ├── RunFailed       1   the work itself failed
    └── Interrupted   130   Ctrl-C, or 143 for SIGTERM, after saving

Anything else is a defect and is raised as it is.
"""

MOST_OF_A_LINE = 1_200
"""Letters."""


class DistillError(Exception):
    """A failure that is told in one sentence, with its cure; what it lists is a line each below.

    It may quote a file that nobody vouches for: of a line that is too long both ends are kept, and
    what a terminal would obey, a new line too, is shown as an escape.
    """

    exit_code = 1

    def __init__(self, message: str, *listed: str) -> None:
        super().__init__(message, *listed)

    def __str__(self) -> str:
        return "\n  ".join(_legible(line) for line in self.args)


class RunFailed(DistillError):
    """The work itself failed while running."""


class UserError(DistillError):
    """Something is wrong with an argument or with a file that the user named."""

    exit_code = 2


class NoDeviceError(DistillError):
    """A GPU was demanded and there is none."""

    exit_code = 3


class NoSafeChoice(DistillError):
    """A stage has no configuration that fits in the budget."""

    exit_code = 4


class ProfileMismatch(DistillError):
    """The profile was made for another machine."""

    exit_code = 6


class Interrupted(DistillError):
    """Asked to stop by a signal; what was done is saved."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def in_short(reason: object) -> str:
    """What a library says of a damaged file, which may hold half of the file, as a few words."""
    return " ".join(str(reason).split())[:200]


def printable(text: str) -> str:
    """The text on one line, as a terminal only shows it: what would move its cursor is escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _legible(line: str) -> str:
    line = printable(line)
    half = MOST_OF_A_LINE // 2
    return line if len(line) <= MOST_OF_A_LINE else f"{line[:half]}…{line[-half:]}"
