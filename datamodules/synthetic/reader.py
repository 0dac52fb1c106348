"""Reader of the synthetic set, for training and as a benchmark."""

from dataclasses import replace
from pathlib import Path

from datamodules.readers import read_got10k
from datamodules.sequences.table import SequenceTable
from datamodules.synthetic.spec import SyntheticSet
from datamodules.synthetic.writer import ensure_synthetic
from datamodules.workers import usable_cores


def read_synthetic(set: SyntheticSet, cache: str | Path, split: str) -> SequenceTable:
    """Reads one split of a synthetic set and generates the set first if the cache lacks it.

    Args:
        set: size and seed of the set.
        cache: folder that holds generated sets and cached tables.
        split: "train" or "val".

    Raises:
        DataError: `cache` is a file.
    """
    table = read_got10k(ensure_synthetic(set, Path(cache), usable_cores()) / "got10k", split, cache=cache)
    return replace(table, generated=f"{set.folder_name}/{split}", read_attributes=None)
