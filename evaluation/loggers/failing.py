"""Lets a job go on when its logger fails: the network or a server may break down in a training of days."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from evaluation.processes.user_errors import log_traceback

log = logging.getLogger(__name__)


@contextmanager
def job_goes_on(action: str) -> Iterator[None]:
    """Turns an error of a logger in the block into a warning. Its traceback goes into the log file of the job.

    Args:
        action: what the block does, for the message.
    """
    try:
        yield
    except Exception as error:  # a logger raises whatever the libraries below it raise
        log.warning("the logger cannot %s, and the job goes on (%s: %s)", action, type(error).__name__, error)
        log_traceback(error)
