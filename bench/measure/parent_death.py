"""A child that holds a device must not outlive the process that asked for it, however that ends.

The parent keeps the writing end of the child's stdin open and never writes; when the parent is
gone, killed or not, the child reads the end of the pipe and ends with its whole group.
"""

import os
import signal
import stat
import threading


def end_with_parent() -> None:
    """Watch stdin from a thread, if it is a pipe; do nothing where it is not."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    while os.read(0, 4096):
        pass
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
