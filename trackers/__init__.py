"""Trackers of light-weight-trackers: networks, losses, online loop and checkpoints.

`load_tracker(path)` loads any saved tracker.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackers.checkpoints.checkpoint import load_checkpoint
    from trackers.loading import load_tracker

__all__ = ["load_checkpoint", "load_tracker"]


def __getattr__(name: str) -> Any:
    # Imported on first use: processes that read or write videos need `trackers.crops`, and a device that runs an export
    # has no torch or Lightning.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "load_tracker":
        from trackers.loading import load_tracker

        return load_tracker
    from trackers.checkpoints.checkpoint import load_checkpoint

    return load_checkpoint
