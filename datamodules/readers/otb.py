"""OTB-2013 and OTB-2015 (Wu et al., CVPR 2013 and TPAMI 2015).

root/Basketball/{img/0001.jpg, ..., groundtruth_rect.txt}
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.readers.listing import check_counts, check_present, data_root, numbered_frames
from datamodules.readers.official_lists import official
from datamodules.sequences.annotations import DataError, read_numbers
from datamodules.sequences.index import Entry, indexed
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

TIGER1 = (1, 6)


def read_otb(
    root: str | Path,
    version: str = "otb100",
    tiger1_first: int = 1,
    names: Collection[str] | None = None,
    cache: str | Path | None = None,
) -> SequenceTable:
    """Reads a version, with names as the got10k toolkit spells them ("Jogging.1").

    A folder may hold more pictures than are annotated (David: 300 to 770), or two objects (Jogging, Skating2).

    Args:
        root: the folder with the folders of sequences.
        version: "otb100" (OTB-2015), "otb2013" (51) or "otb50" (the harder half of OTB-2015, TB-50).
        tiger1_first: number of Tiger1's first picture that counts: 1, as in the got10k toolkit, or 6, as in pytracking
            and OSTrack. Their results differ in length.
        names: of the sequences to take; None for all.
        cache: see `indexed`.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    if tiger1_first not in TIGER1:
        raise DataError(f"tiger1_first={tiger1_first} must be 1 (got10k) or 6 (pytracking, OSTrack)")
    root = data_root(root, "OTB", "")
    rows = {row["name"]: row for row in official("otb", version, names)}
    entries = [_entry(root, row, tiger1_first) for row in rows.values()]
    check_present(list(rows), [entry.folder for entry in entries], version)
    return indexed(root, entries, lambda entry: _read(entry, int(rows[entry.name]["first"])), cache)


def other_names(name: str) -> tuple[str, ...]:
    """How the result files of other tools spell a sequence's name, e.g. "Jogging_1"."""
    (row,) = official("otb", "otb100", [name])
    return tuple(row["other_names"].split())


def _entry(root: Path, row: dict[str, str], tiger1_first: int) -> Entry:
    folder, first = root / row["folder"], tiger1_first if row["name"] == "Tiger1" else int(row["first"])
    return Entry(row["name"], folder / "img", (folder / row["annotation"],), (first, int(row["last"])))


def _read(entry: Entry, annotated_from: int) -> Sequence:
    first, last = entry.numbers
    frames, boxes = numbered_frames(entry.folder, first, last), read_numbers(entry.files[0], columns=4)
    check_counts(entry.folder, last - annotated_from + 1, len(boxes))
    boxes = boxes[first - annotated_from :]
    return Sequence(entry.name, entry.folder, frames, boxes, np.zeros(len(boxes), bool))
