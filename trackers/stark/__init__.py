"""STARK (Yan et al., ICCV 2021), a tracker of a ResNet and a transformer."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackers.stark.tracker import STARK

__all__ = ["STARK"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the online rules need neither PyTorch nor the network.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackers.stark.tracker import STARK

    return STARK
