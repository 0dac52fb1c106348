"""The synthetic set as a datamodule and as a benchmark: generated when first asked for, then read like GOT-10k."""

import os
from pathlib import Path

from datamodules.got10k import read_got10k
from datamodules.module import TrackingDataModule
from datamodules.sequences import Sequence
from datamodules.synthetic.spec import SyntheticSet
from datamodules.synthetic.writer import ensure_synthetic


def read_synthetic(set: SyntheticSet, cache: str | Path, split: str) -> list[Sequence]:
    """The sequences of "train" or "val", generated below `cache` if they are not there yet."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return read_got10k(ensure_synthetic(set, Path(cache), workers) / "got10k", split)


class Synthetic(TrackingDataModule):
    """Trains and validates on a synthetic set.

    Args:
        set: what is generated.
        cache: where.
        options: see `TrackingDataModule`.
    """

    def __init__(self, set: SyntheticSet, cache: str, **options: object):
        super().__init__(**options)
        self.set, self.cache = set, cache

    def read(self, split: str) -> list[Sequence]:
        """The sequences of "train" or "val"."""
        return read_synthetic(self.set, self.cache, split)
