"""LaSOT (Fan et al., CVPR 2019) and its extension (IJCV 2021).

root/airplane/airplane-1/{img/00000001.jpg, ..., groundtruth.txt, full_occlusion.txt, out_of_view.txt}
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.readers.listing import check_counts, check_present, data_root, frames_in
from datamodules.readers.official_lists import official
from datamodules.sequences.annotations import read_labels, read_numbers
from datamodules.sequences.index import Entry, indexed
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable


def read_lasot(
    root: str | Path, split: str, names: Collection[str] | None = None, cache: str | Path | None = None
) -> SequenceTable:
    """Reads one split. What is fully occluded or out of view is absent.

    Args:
        root: the folder with the folders of classes, or with those of sequences.
        split: "test" (280, protocol II), "train" (the other 1120) or "extension" (150 of other classes).
        names: of the sequences to take; None for the whole split.
        cache: see `indexed`.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    root = data_root(root, "LaSOT", "")
    names = [row["name"] for row in official("lasot", split, names)]
    folders = [_folder(root, name) for name in names]
    check_present(names, folders, f"LaSOT's {split} split")
    files = ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt")
    entries = [Entry(n, f / "img", tuple(f / file for file in files)) for n, f in zip(names, folders, strict=True)]
    return indexed(root, entries, _read, cache)


def _folder(root: Path, name: str) -> Path:
    direct = root / name
    return direct if direct.is_dir() else root / name.rpartition("-")[0] / name


def _read(entry: Entry) -> Sequence:
    annotation, *labels = entry.files
    frames, boxes = frames_in(entry.folder), read_numbers(annotation, columns=4, nan=True)
    check_counts(entry.folder, len(frames), len(boxes))
    absent = np.zeros(len(boxes), bool)
    for label in labels:
        if label.is_file():  # people's copies may lack them
            absent |= read_labels(label, len(boxes)) > 0
    return Sequence(entry.name, entry.folder, frames, boxes, absent)
