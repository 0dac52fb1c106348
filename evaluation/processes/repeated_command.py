"""Processes for which torchrun, Slurm or Lightning runs the command of a job once more."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Variables in which torchrun, Slurm and Lightning tell a process its number.
RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")


def is_repetition() -> bool:
    """Returns whether this process is not the first one of its job. It has not joined the others yet."""
    return any(int(os.environ.get(rank, 0)) for rank in RANKS)


@contextmanager
def logged_once() -> Iterator[None]:
    """Logs only errors in processes that repeat what the first process does, e.g. the checks before a training."""
    root = logging.getLogger()
    level = root.level
    if is_repetition():
        root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
