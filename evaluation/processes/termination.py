"""Ends a job in order after SIGTERM and after Ctrl-C, so that its log is closed and the same command continues it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from evaluation.processes.command_state import command_state
from evaluation.processes.repeated_command import is_repetition

STDERR = 2
WORDS = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}  # the exit code is 128 + number, as in shells
UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)


def announces() -> bool:
    """Returns whether this process tells the user of a signal: of all processes of a command, the first one does."""
    return multiprocessing.parent_process() is None and not is_repetition()


@contextmanager
def ctrl_c_held() -> Iterator[None]:
    """Holds Ctrl-C back in the block. Processes that start in it never get one: who has started them ends them.

    Otherwise a process that Ctrl-C reaches while it imports its modules prints a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ends_in_order(wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Turns SIGTERM in the block into SystemExit with code 143, and Ctrl-C into one with code 130.

    Whoever has set a handler of such a signal before, like Slurm's launcher, keeps it.

    Args:
        wait: returns when the processes that this one has started may end. A second signal does not wait.
    """
    before = {number: signal.getsignal(number) for number in WORDS}
    is_main = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in before.items() if is_main and handler in UNHANDLED]
    process, waited = os.getpid(), False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal waited
        if os.getpid() != process:
            os._exit(128 + number)  # a fork that has inherited this handler has nothing to put in order
        if frame is not None and not waited and announces():  # without a frame, a training has held it back and told
            following = "; the same command continues where it stopped" if command_state.can_go_on else ""
            message = f"{WORDS[signal.Signals(number)]}{following}\n"
            os.write(STDERR, message.encode())  # the signal may have interrupted a `print`
        if not waited:
            waited = True
            wait()
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
