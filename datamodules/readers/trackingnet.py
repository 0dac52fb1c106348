"""TrackingNet (Müller et al., ECCV 2018).

root/TRAIN_0/{anno/NAME.txt, frames/NAME/0.jpg, ...}, ..., root/TRAIN_11, root/TEST
"""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.readers.listing import check_counts, check_present, data_root, frames_in
from datamodules.sequences.annotations import DataError, read_numbers
from datamodules.sequences.index import Entry, indexed
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

log = logging.getLogger(__name__)

CHUNKS = 12  # of the training split
SEQUENCES = {"train": 2511, "test": 511}  # in a chunk


def read_trackingnet(
    root: str | Path, split: str, chunks: Collection[int] | None = None, cache: str | Path | None = None
) -> SequenceTable:
    """Reads the sequences that are annotated; of `test`, only first frames are.

    Args:
        root: the folder with TRAIN_0, ..., TRAIN_11 and TEST.
        split: "train" or "test".
        chunks: of the training split, e.g. (0, 1, 2, 3), as several trackers take; None for all 12.
        cache: see `indexed`.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    if split not in SEQUENCES or (split == "test" and chunks is not None):
        raise DataError(f"TrackingNet has no split={split} with chunks={chunks}; take split=train, or test with null")
    numbers = range(CHUNKS) if chunks is None else chunks
    entries = []
    for chunk in ["TEST"] if split == "test" else [f"TRAIN_{i}" for i in numbers]:
        folder = data_root(root, "TrackingNet", f"{chunk}/anno") / chunk
        entries += _entries(folder, SEQUENCES[split])
    return indexed(Path(root).expanduser().absolute(), entries, _read, cache)


def _entries(chunk: Path, expected: int) -> list[Entry]:
    files = sorted(file for file in (chunk / "anno").glob("*.txt") if not file.name.startswith("."))
    entries = [Entry(file.stem, chunk / "frames" / file.stem, (file,)) for file in files]
    check_present([e.name for e in entries], [e.folder for e in entries], str(chunk / "anno"))
    if len(entries) != expected:
        log.warning("%s has %d annotated sequences, the official one has %d", chunk, len(entries), expected)
    return entries


def _read(entry: Entry) -> Sequence:
    frames, boxes = frames_in(entry.folder), read_numbers(entry.files[0], columns=4)
    if entry.folder.parents[1].name != "TEST" or len(boxes) != 1:
        check_counts(entry.folder, len(frames), len(boxes))
    return Sequence(entry.name, entry.folder, frames, boxes, np.zeros(len(boxes), bool))
