"""UAV123 and UAV20L (Mueller et al., ECCV 2016).

root/anno/{UAV123, UAV20L}/bike1.txt, root/data_seq/UAV123/bike1/000001.jpg
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.readers.listing import check_counts, check_present, data_root, numbered_frames
from datamodules.readers.official_lists import official
from datamodules.sequences.annotations import read_numbers
from datamodules.sequences.index import Entry, indexed
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable


def read_uav123(
    root: str | Path,
    version: str = "uav123",
    names: Collection[str] | None = None,
    cache: str | Path | None = None,
) -> SequenceTable:
    """Reads a version. A box is NaN where the object is absent; several sequences can be parts of one folder of frames.

    Args:
        root: the folder with `anno` and `data_seq`.
        version: "uav123", or "uav20l" (20 long ones).
        names: of the sequences to take; None for all.
        cache: see `indexed`.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    rows = official("uav123", version, names)
    root = data_root(root, "UAV123", f"anno/{version.upper()}")
    entries = [_entry(root, root / "anno" / version.upper(), row) for row in rows]
    check_present([e.name for e in entries], [e.folder for e in entries], version)
    return indexed(root, entries, _read, cache)


def _entry(root: Path, annotations: Path, row: dict[str, str]) -> Entry:
    folder = root / "data_seq" / "UAV123" / row["folder"]
    return Entry(row["name"], folder, (annotations / f"{row['name']}.txt",), (int(row["first"]), int(row["last"])))


def _read(entry: Entry) -> Sequence:
    frames, boxes = numbered_frames(entry.folder, *entry.numbers), read_numbers(entry.files[0], columns=4, nan=True)
    check_counts(entry.folder, len(frames), len(boxes))
    return Sequence(entry.name, entry.folder, frames, boxes, np.zeros(len(boxes), bool))
