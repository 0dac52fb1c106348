"""Trackers of light-weight-trackers: networks, losses, online loop and checkpoints.

`load_tracker(path)` loads any saved tracker.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackers.checkpoints.checkpoint import load_checkpoint, load_tracker

__all__ = ["load_checkpoint", "load_tracker"]


def __getattr__(name: str) -> Any:
    # Imported on first use: processes that read or write videos need `trackers.crops`, but not torch or Lightning.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackers.checkpoints import checkpoint

    return getattr(checkpoint, name)
