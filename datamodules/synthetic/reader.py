"""The synthetic set, for training and as a benchmark: generated when first asked for, then read like GOT-10k."""

import os
from pathlib import Path

from datamodules.readers import read_got10k
from datamodules.sequences.table import SequenceTable
from datamodules.synthetic.spec import SyntheticSet
from datamodules.synthetic.writer import ensure_synthetic


def read_synthetic(set: SyntheticSet, cache: str | Path, split: str) -> SequenceTable:
    """The sequences of "train" or "val", generated below `cache` if they are not there yet."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return read_got10k(ensure_synthetic(set, Path(cache), workers) / "got10k", split, cache=cache)
