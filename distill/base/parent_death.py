"""A child must not outlive the process that asked for it, however that ends.

A child that holds a device would hold it for ever. The parent of a child keeps the writing end of
the child's stdin open and never writes; when the parent is gone, killed or not, the child reads the
end of the pipe and ends with its whole group. A worker of a process pool has no such pipe: it waits
for its parent itself.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import stat
import threading


def end_with_parent() -> None:
    """Watch stdin from a thread, if it is a pipe; do nothing where it is not."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end_at_end_of_input, daemon=True).start()


def end_worker_with_parent() -> None:
    """Watch the process that made this one with `multiprocessing`, from a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
