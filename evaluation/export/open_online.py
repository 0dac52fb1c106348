"""Opens a tracker for `init` and `update`, in this process or in another one."""

from collections.abc import Callable
from typing import Any

from trackers.online import OnlineTracker


def open_online(load: Callable[[], Any], device: str, runtime: str | None, threads: int) -> OnlineTracker:
    """Returns a tracker that follows one object.

    Args:
        load: loads what holds a tracker, e.g. a checkpoint.
        device, runtime, threads: see `OnlineTracker`.
    """
    return OnlineTracker(load().tracker, device, runtime, threads)
