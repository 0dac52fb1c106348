"""Reader of LaSOT (Fan et al., CVPR 2019) and its extension (IJCV 2021). Layout:

root/airplane/airplane-1/{img/00000001.jpg, ..., groundtruth.txt, full_occlusion.txt, out_of_view.txt}
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.readers.completeness import read_listed
from datamodules.readers.listing import check_frames_match_boxes, list_frames
from datamodules.readers.official_lists import count_official, read_official_list
from datamodules.sequences.annotations import read_labels, read_numbers
from datamodules.sequences.index import SequenceFiles
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

FILES = ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt")


def read_lasot(
    root: str | Path,
    split: str,
    names: Collection[str] | None = None,
    cache: str | Path | None = None,
    only_complete: bool = False,
) -> SequenceTable:
    """Reads one split. A fully occluded or out-of-view object is absent.

    Args:
        root: folder with the folders of classes, or directly with the folders of sequences.
        split: "test" (280, protocol II), "train" (the other 1120) or "extension" (150 of other classes).
        names: sequences to read; None reads the whole split.
        cache, only_complete: see `read_listed`.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    root = Path(root).expanduser().absolute()
    names, whole = [row["name"] for row in read_official_list("lasot", split, names)], count_official("lasot", split)
    folders = [_sequence_folder(root, name) for name in names]
    listed = [
        SequenceFiles(name, folder / "img", tuple(folder / file for file in FILES))
        for name, folder in zip(names, folders, strict=True)
    ]
    return read_listed(f"LaSOT's {split} split", root, listed, _read, cache, only_complete, whole)


def _sequence_folder(root: Path, name: str) -> Path:
    direct = root / name
    return direct if direct.is_dir() else root / name.rpartition("-")[0] / name


def _read(files: SequenceFiles) -> Sequence:
    annotation, *labels = files.annotations
    frames, boxes = list_frames(files.folder), read_numbers(annotation, columns=4, nan=True)
    check_frames_match_boxes(files.folder, len(frames), len(boxes))
    absent = np.zeros(len(boxes), bool)
    for label in labels:
        if label.is_file():  # some copies lack the label files
            absent |= read_labels(label, len(boxes)) > 0
    return Sequence(files.name, files.folder, frames, boxes, absent)
