"""Reader of TrackingNet (Müller et al., ECCV 2018). Layout:

root/TRAIN_0/{anno/NAME.txt, frames/NAME/0.jpg, ...}, ..., root/TRAIN_11, root/TEST
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, DataSettingError
from datamodules.readers.completeness import describe_archives, not_found, read_listed
from datamodules.readers.listing import check_frames_match_boxes, list_frames
from datamodules.sequences.annotations import read_numbers
from datamodules.sequences.index import SequenceFiles
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

CHUNKS = 12  # of the training split; the test split is a single chunk
SEQUENCES = {"train": 2511, "test": 511}  # in each chunk of a split


def read_trackingnet(
    root: str | Path,
    split: str,
    chunks: Collection[int] | None = None,
    cache: str | Path | None = None,
    only_complete: bool = False,
) -> SequenceTable:
    """Reads the annotated sequences. In `test`, only the first frame of each is annotated.

    Args:
        root: folder with TRAIN_0, ..., TRAIN_11 and TEST.
        split: "train" or "test".
        chunks: chunks of the training split, e.g. (0, 1, 2, 3), which several trackers use; None reads all 12.
        cache, only_complete: see `read_listed`. If `only_complete`, missing chunks are left out, too.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    if split not in SEQUENCES or (split == "test" and chunks is not None):
        raise DataError(
            f"TrackingNet has no split={split} with chunks={chunks}; use split=train, or split=test with chunks=null"
        )
    root = Path(root).expanduser().absolute()
    asked = range(CHUNKS) if chunks is None else chunks
    if split == "test":
        folders = [root / "TEST"]
        if not (root / "TEST" / "anno").is_dir():
            raise not_found("TrackingNet", root, "TEST/anno", lambda folder: (folder / "TEST" / "anno").is_dir())
    else:
        folders = [root / f"TRAIN_{i}" for i in _present_chunks(root, asked, only_complete)]
    listed = [files for folder in folders for files in _chunk_files(folder)]
    whole = SEQUENCES[split] * (1 if split == "test" else len(asked))
    return read_listed(f"TrackingNet's {split} split", root, listed, _read, cache, only_complete, whole)


def _present_chunks(root: Path, asked: Collection[int], only_complete: bool) -> list[int]:
    """Returns the numbers of the chunks to read: all that are asked for, or those of them that are there."""

    def has_chunk(folder: Path, number: int) -> bool:
        return (folder / f"TRAIN_{number}" / "anno").is_dir()

    present, missing = [i for i in asked if has_chunk(root, i)], [i for i in asked if not has_chunk(root, i)]
    usable = present or [i for i in range(CHUNKS) if has_chunk(root, i)]
    if not usable:
        needs = f"TRAIN_{next(iter(asked), 0)}/anno"
        raise not_found("TrackingNet", root, needs, lambda folder: any(has_chunk(folder, i) for i in range(CHUNKS)))
    if not present or (missing and not only_complete):
        lacking = ", ".join(f"TRAIN_{i}/anno" for i in missing)
        raise DataSettingError(
            f"TrackingNet at {root} is incomplete: {len(present)} of the {len(asked)} chunks are there; missing: "
            f"{lacking}{describe_archives(root)}",
            "Finish the copy, or use chunks that are there",
            f"chunks=[{','.join(map(str, usable))}]",
        )
    return present


def _chunk_files(chunk: Path) -> list[SequenceFiles]:
    files = sorted(file for file in (chunk / "anno").glob("*.txt") if not file.name.startswith("."))
    if not files:
        raise DataError(f"{chunk / 'anno'} has no annotation (.txt): the copy is incomplete. Copy the chunk again")
    return [SequenceFiles(file.stem, chunk / "frames" / file.stem, (file,)) for file in files]


def _read(files: SequenceFiles) -> Sequence:
    frames, boxes = list_frames(files.folder), read_numbers(files.annotations[0], columns=4)
    if files.folder.parents[1].name != "TEST" or len(boxes) != 1:
        check_frames_match_boxes(files.folder, len(frames), len(boxes))
    return Sequence(files.name, files.folder, frames, boxes, np.zeros(len(boxes), bool))
