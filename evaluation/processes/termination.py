"""Ends a job in order after SIGTERM and after Ctrl-C, so that its log is closed and the same command continues it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STDERR = 2
WORDS = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}  # the exit code is 128 + number, as in shells
UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)


@contextmanager
def ends_in_order() -> Iterator[None]:
    """Turns SIGTERM in the block into SystemExit with code 143, and Ctrl-C into one with code 130.

    Whoever has set a handler of such a signal before, like Slurm's launcher, keeps it.
    """
    before = {number: signal.getsignal(number) for number in WORDS}
    is_main = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in before.items() if is_main and handler in UNHANDLED]
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(128 + number)  # a fork that has inherited this handler has nothing to put in order
        message = f"{WORDS[signal.Signals(number)]}; the same command continues where it stopped\n"
        os.write(STDERR, message.encode())  # the signal may have interrupted a `print`
        for child in multiprocessing.active_children():
            child.terminate()
        raise SystemExit(128 + number)

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
