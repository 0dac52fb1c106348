"""Holds back the signals that end a job until a training has finished its step and saved its state."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from evaluation.processes.ranks import broadcast, is_rank_zero, largest
from evaluation.processes.termination import STDERR, WORDS, announces

FROM_LAUNCHERS = (signal.SIGUSR1, signal.SIGUSR2)  # Slurm sends one before it ends a job; submitit then requeues it
GRACE = 20.0  # seconds for the running step; Slurm, Kubernetes and torchrun kill 30 seconds after SIGTERM
SAVE = 1  # in the place of a signal: all processes save a checkpoint, and go on
URGENCY = (0, SAVE, *WORDS, *FROM_LAUNCHERS)  # a later one takes the place of an earlier one
HELD = "the training saves its state after this step, unless it is its last. A second signal ends it at once"
COPIES = 1.0  # seconds in which a launcher may forward a signal that the whole process group got already


class HeldSignals:
    """Holds back the signals that end a job while a training finishes its step and saves its state.

    These are SIGTERM, Ctrl-C, and those of SIGUSR1 and SIGUSR2 that somebody handles, such as Slurm's launcher; a
    signal that is ignored stays so. `release` calls the handler that was there before. A second signal calls its
    handler at once, and so does the end of the grace time. But a launcher's signal takes the place of SIGTERM.

    Args:
        words: tell the user what happens now.

    Attributes:
        pending: number of the signal that waits, 0 for none.
    """

    def __init__(self, words: str = HELD) -> None:
        self.pending, self._words = 0, words
        self._before: dict[int, Any] = {}
        self._process, self._since = os.getpid(), 0.0
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "HeldSignals":
        """Sets the handlers. Python calls handlers in the main thread alone, so another thread holds nothing back."""
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in (*WORDS, *FROM_LAUNCHERS)}
            self._before = {
                number: handler
                for number, handler in handlers.items()
                if callable(handler) or (number in WORDS and handler == signal.SIG_DFL)
            }
            self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        """Puts the handlers back. If an error ended the training first, the signal that waits still ends the job."""
        number = self.pending
        self._cancel()
        for each, handler in self._before.items():
            signal.signal(each, handler)
        if number:
            self._handle(number)

    def hold(self) -> None:
        """Sets the handlers again, which others may have replaced, such as Lightning at the start of a training."""
        for number in self._before:
            signal.signal(number, self._receive)

    def release(self, number: int) -> None:
        """Does in all processes of the job what rank 0 does after a signal: all end, or all go on if rank 0 does.

        Args:
            number: the signal, the same in all processes.

        Raises:
            SystemExit: the job ends. Rank 0 alone has an exit code that is not 0: launchers kill a job at once when
                another process fails.
        """
        self._cancel()
        if not is_rank_zero():
            if broadcast(None):
                raise SystemExit(0)
            return
        try:
            self._handle(number)
        except BaseException:
            broadcast(True)
            raise
        broadcast(False)

    def release_last(self) -> None:
        """Calls `release` if any process of the job holds a signal back. All processes must call this function."""
        if number := most_urgent(self.pending):
            self.release(number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a fork that has inherited this handler has no step to finish
            if number in WORDS:
                os._exit(128 + number)
            return
        if not self.pending:
            self.pending, self._since = number, time.monotonic()
            self._timer = threading.Timer(GRACE, lambda: os.kill(self._process, self.pending))
            self._timer.daemon = True
            self._timer.start()
            if announces():
                os.write(STDERR, f"\n{_word(number)}; {self._words}\n".encode())  # the progress bar has no end of line
        elif number in FROM_LAUNCHERS and self.pending in WORDS:
            self.pending = number  # Slurm may send SIGTERM before it, which submitit ignores
        elif time.monotonic() - self._since >= COPIES:
            self._handle(number)

    def _handle(self, number: int) -> None:
        """Does what the process would have done without this object."""
        handler = self._before.get(number)
        if not callable(handler):
            raise SystemExit(128 + number)
        handler(number, None)

    def _cancel(self) -> None:
        """Forgets the signal that waits."""
        if self._timer is not None:
            self._timer.cancel()
        self.pending, self._timer = 0, None


def most_urgent(number: int) -> int:
    """Returns the most urgent of the numbers of all processes of the job, which must all call this function.

    Args:
        number: the signal that waits in this process, `SAVE`, or 0 for nothing.
    """
    return URGENCY[largest(URGENCY.index(number))]


def _word(number: int) -> str:
    return WORDS.get(signal.Signals(number), signal.Signals(number).name)
