"""OSTrack (Ye et al., ECCV 2022), a one-stream transformer tracker."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackers.ostrack.tracker import OSTrack

__all__ = ["OSTrack"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the online rules need neither PyTorch nor the network.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackers.ostrack.tracker import OSTrack

    return OSTrack
