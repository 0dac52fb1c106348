"""Ends a process when the process that started it ends, however that happens."""

import multiprocessing
import os
import signal
import time
from functools import cache
from threading import Thread

INTERVAL = 0.5  # time between two looks at the parent, seconds
GRACE = 3  # time for a process to end by itself, seconds


def exit_with_parent() -> None:
    """Makes this process end soon after its parent: as if it got SIGTERM, and then at once.

    Otherwise a job goes on and keeps its GPU if somebody kills the sweep, and a worker waits for work forever.
    """
    _watch_parent_of(os.getpid())


def stay_until_parent_ends_it() -> None:
    """Makes this process ignore Ctrl-C and SIGTERM, unless the parent or this process itself has sent the SIGTERM.

    A terminal or a cluster sends signals to all processes of a job. The parent still needs its workers to finish what
    it is doing. Call this function before the process starts a thread, because threads inherit what is blocked.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS lacks it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_exit_when_asked, args=({os.getppid(), os.getpid()},), daemon=True).start()


def _exit_when_asked(senders: set[int]) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid not in senders:
        pass
    os._exit(0)  # as PyTorch's workers do; the loader takes any other code for a failure


@cache
def _watch_parent_of(process: int) -> None:
    """Starts the thread of a process. A fork inherits what is cached but no threads, so the process is an argument."""
    Thread(target=_exit_after, args=(multiprocessing.parent_process(), os.getppid()), daemon=True).start()


def _exit_after(parent: multiprocessing.process.BaseProcess | None, pid: int) -> None:
    if parent is not None and parent.sentinel is not None:
        parent.join()
    else:  # joblib starts processes without a sentinel, and `subprocess` ones that know no parent
        pid = pid if parent is None else parent.pid
        while os.getppid() == pid:
            time.sleep(INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)
