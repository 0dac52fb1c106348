"""Ends a job in order after SIGTERM and after Ctrl-C, so that its log is closed and the same command continues it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STDERR = 2
CONTINUES = "the same command continues where it stopped"


@contextmanager
def ends_in_order() -> Iterator[None]:
    """Turns SIGTERM in the block into SystemExit with code 143, and Ctrl-C into code 130, as shells count them.

    Whoever has set a handler of SIGTERM before, like Slurm's launcher, keeps it.
    """
    try:
        with _handling_sigterm():
            yield
    except KeyboardInterrupt:
        print(f"interrupted; {CONTINUES}", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


@contextmanager
def _handling_sigterm() -> Iterator[None]:
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(128 + number)  # a fork that has inherited this handler has nothing to put in order
        os.write(STDERR, f"terminated; {CONTINUES}\n".encode())  # `print` may be what was interrupted
        for child in multiprocessing.active_children():
            child.terminate()
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
