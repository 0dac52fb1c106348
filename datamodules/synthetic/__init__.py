"""Synthetic tracking videos: generated once into a cache, in the layout of GOT-10k."""

from datamodules.synthetic.reader import read_synthetic
from datamodules.synthetic.spec import SplitSpec, SyntheticSet
from datamodules.synthetic.writer import ensure_synthetic

__all__ = ["SplitSpec", "SyntheticSet", "ensure_synthetic", "read_synthetic"]
