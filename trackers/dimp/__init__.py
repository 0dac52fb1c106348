"""DiMP (Bhat et al., ICCV 2019) and its successors PrDiMP and SuperDiMP."""

from trackers.dimp.tracker import DiMP

__all__ = ["DiMP"]
