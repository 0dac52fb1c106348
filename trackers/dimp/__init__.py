"""DiMP (Bhat et al., ICCV 2019) and its successors PrDiMP and SuperDiMP."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackers.dimp.tracker import DiMP

__all__ = ["DiMP"]


def __getattr__(name: str) -> Any:
    # Imported on first use: the online rules need neither PyTorch nor the network.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackers.dimp.tracker import DiMP

    return DiMP
