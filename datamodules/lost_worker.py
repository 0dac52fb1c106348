"""Names a loader process that died, whatever error its death causes in the process that waits for a batch."""

from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

T = TypeVar("T")
SECONDS_TO_DIE = 5.0  # a process that writes a core dump closes its connections long before it has ended


def naming_lost_workers(batches: Iterable[T], workers: Sequence[BaseProcess]) -> Iterator[T]:
    """Yields the batches of loader processes.

    PyTorch names a dead process if it learns of the death from a signal or from a queue that stays empty. If the
    process dies while it hands over the memory of a batch, PyTorch may fail with an error of the connection, which
    does not say what happened.

    Args:
        batches: the batches.
        workers: the processes that make them; empty if this process does.

    Raises:
        RuntimeError: a process has died; in the words of PyTorch.
    """
    try:
        yield from batches
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        dead = wait([worker.sentinel for worker in workers], SECONDS_TO_DIE) if workers else []
        lost = ", ".join(str(worker.pid) for worker in workers if worker.sentinel in dead)
        if not lost:
            raise
        raise RuntimeError(f"DataLoader worker (pid(s) {lost}) exited unexpectedly") from error
