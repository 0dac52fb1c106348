"""STARK."""

from trackers.stark.tracker import STARK

__all__ = ["STARK"]
