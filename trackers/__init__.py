"""Trackers, and the one call that gives any saved one back: `load_tracker(path)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackers.checkpoints.checkpoint import load_checkpoint, load_tracker

__all__ = ["load_checkpoint", "load_tracker"]


def __getattr__(name: str) -> Any:
    # Only when asked for: processes that write or read videos need `trackers.crops`, and neither torch nor Lightning.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackers.checkpoints import checkpoint

    return getattr(checkpoint, name)
