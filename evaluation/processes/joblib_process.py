"""Prepares a process in which joblib runs jobs of a sweep, and ends such processes after a signal."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datamodules.exit_with_parent import exit_with_parent

RUNNING = ".running-"  # start of the names of files in a sweep's folder, one for each process that runs a job
LEAKS = "ignore:resource_tracker"  # a filter of warnings: the start of the message
PATIENCE = 25.0  # seconds that jobs get to save their states; a training takes at most 20


@contextmanager
def in_joblib_process(sweep: Path) -> Iterator[None]:
    """Prepares this process for a job. In a process that joblib has not started it does nothing.

    joblib kills all of its processes when one of them ends or returns an error that is no `Exception`. So after a
    signal a process waits here until the jobs in the others have saved their states, see `wait_for_jobs`.

    Args:
        sweep: folder of the sweep.
    """
    if multiprocessing.parent_process() is None:
        yield
        return
    prepare_joblib_process()
    running = sweep / f"{RUNNING}{os.getpid()}"
    running.touch()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except SystemExit:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        running.unlink(missing_ok=True)
        time.sleep(PATIENCE)
        raise
    finally:
        running.unlink(missing_ok=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to processes without a job, too


def prepare_joblib_process() -> None:
    """Makes this process end with the sweep, and lets its jobs start processes. Elsewhere it does nothing.

    The processes that a process spawns take over its default start method. That of joblib's processes is "loky", which
    a new Python does not know.
    """
    if multiprocessing.parent_process() is None:
        return
    exit_with_parent()
    multiprocessing.set_start_method(None, force=True)


def wait_for_jobs(sweep: Path) -> None:
    """Ends the jobs of a sweep that run in processes of joblib, and returns when they have saved their states."""
    for process in _processes(sweep):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    while _processes(sweep) and time.monotonic() < end:
        time.sleep(0.1)


def forget_jobs(sweep: Path) -> None:
    """Deletes what jobs have left that were killed in an earlier sweep in this folder."""
    for file in sweep.glob(f"{RUNNING}*"):
        file.unlink(missing_ok=True)


def silence_leaks() -> None:
    """Keeps joblib from warning of semaphores and folders that a signal has left, since joblib itself deletes them."""
    filters = [rule for rule in os.environ.get("PYTHONWARNINGS", "").split(",") if rule not in ("", LEAKS)]
    os.environ["PYTHONWARNINGS"] = ",".join([*filters, LEAKS])  # a process of joblib's, which starts later, warns


def _processes(sweep: Path) -> list[int]:
    return [int(file.name.removeprefix(RUNNING)) for file in sweep.glob(f"{RUNNING}*")]
