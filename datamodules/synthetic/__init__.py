"""Synthetic tracking videos in the layout of GOT-10k, written once into a cache."""

from datamodules.synthetic.module import Synthetic, read_synthetic
from datamodules.synthetic.spec import SplitSpec, SyntheticSet
from datamodules.synthetic.writer import ensure_synthetic

__all__ = ["SplitSpec", "Synthetic", "SyntheticSet", "ensure_synthetic", "read_synthetic"]
