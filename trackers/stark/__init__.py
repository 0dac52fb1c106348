"""STARK (Yan et al., ICCV 2021), a tracker of a ResNet and a transformer."""

from trackers.stark.tracker import STARK

__all__ = ["STARK"]
