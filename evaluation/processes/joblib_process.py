"""Prepares a process in which joblib runs jobs of a sweep."""

import multiprocessing

from datamodules.exit_with_parent import exit_with_parent


def prepare_joblib_process() -> None:
    """Makes this process end with the sweep, and lets its jobs start processes. Elsewhere it does nothing.

    The processes that a process spawns take over its default start method. That of joblib's processes is "loky", which
    a new Python does not know.
    """
    if multiprocessing.parent_process() is None:
        return
    exit_with_parent()
    multiprocessing.set_start_method(None, force=True)
