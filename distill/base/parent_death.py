"""A child must not outlive the process that asked for it, however that ends.

A child that holds a device would hold it for ever. The parent of a child keeps the writing end of
the child's stdin open; when the parent is gone, killed or not, that pipe has no writer any more,
and the child ends with its whole group. A fork of a fork server goes by a pipe that the server
holds. A worker of `worker_pool` waits for its parent itself.

`python -m distill.base.parent_death MODULE ARGUMENTS…` is `python -m MODULE ARGUMENTS…` as such a
child: a command that a person calls must not end with its standard input.
"""

import multiprocessing
import multiprocessing.connection
import os
import runpy
import select
import signal
import stat
import sys
import threading


def end_with_parent() -> None:
    """Watch stdin from a thread, if it is a pipe; do nothing where it is not."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        end_with_pipe(0)


def end_with_pipe(reading: int) -> None:
    """End this process and its group, from a thread, when a pipe has no writer any more."""
    threading.Thread(target=_end_at_hang_up, args=(reading,), daemon=True).start()


def end_worker_with_parent() -> None:
    """Watch the process that made this one with `multiprocessing`, from a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_at_hang_up(reading: int) -> None:
    hang_up = select.poll()
    hang_up.register(reading, 0)  # what is written is for another reader
    hang_up.poll()
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


if __name__ == "__main__":
    end_with_parent()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
