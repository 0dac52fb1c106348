"""Reader of TrackingNet (Müller et al., ECCV 2018). Layout:

root/TRAIN_0/{anno/NAME.txt, frames/NAME/0.jpg, ...}, ..., root/TRAIN_11, root/TEST
"""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.readers.listing import check_folders_exist, check_frames_match_boxes, find_root, list_frames
from datamodules.sequences.annotations import read_numbers
from datamodules.sequences.index import SequenceFiles, read_sequences
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

log = logging.getLogger(__name__)

CHUNKS = 12  # of the training split; the test split is a single chunk
SEQUENCES = {"train": 2511, "test": 511}  # in each chunk of a split


def read_trackingnet(
    root: str | Path, split: str, chunks: Collection[int] | None = None, cache: str | Path | None = None
) -> SequenceTable:
    """Reads the annotated sequences. In `test`, only the first frame of each is annotated.

    Args:
        root: folder with TRAIN_0, ..., TRAIN_11 and TEST.
        split: "train" or "test".
        chunks: chunks of the training split, e.g. (0, 1, 2, 3), which several trackers use; None reads all 12.
        cache: see `read_sequences`.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    if split not in SEQUENCES or (split == "test" and chunks is not None):
        raise DataError(
            f"TrackingNet has no split={split} with chunks={chunks}; use split=train, or split=test with chunks=null"
        )
    numbers = range(CHUNKS) if chunks is None else chunks
    listed = []
    for chunk in ["TEST"] if split == "test" else [f"TRAIN_{i}" for i in numbers]:
        folder = find_root(root, "TrackingNet", f"{chunk}/anno") / chunk
        listed += _chunk_files(folder, SEQUENCES[split])
    return read_sequences(Path(root).expanduser().absolute(), listed, _read, cache)


def _chunk_files(chunk: Path, expected: int) -> list[SequenceFiles]:
    files = sorted(file for file in (chunk / "anno").glob("*.txt") if not file.name.startswith("."))
    listed = [SequenceFiles(file.stem, chunk / "frames" / file.stem, (file,)) for file in files]
    check_folders_exist([s.name for s in listed], [s.folder for s in listed], str(chunk / "anno"))
    if len(listed) != expected:
        log.warning("%s has %d annotated sequences, the official data set has %d", chunk, len(listed), expected)
    return listed


def _read(files: SequenceFiles) -> Sequence:
    frames, boxes = list_frames(files.folder), read_numbers(files.annotations[0], columns=4)
    if files.folder.parents[1].name != "TEST" or len(boxes) != 1:
        check_frames_match_boxes(files.folder, len(frames), len(boxes))
    return Sequence(files.name, files.folder, frames, boxes, np.zeros(len(boxes), bool))
