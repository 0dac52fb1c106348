"""Reader of LaSOT (Fan et al., CVPR 2019) and its extension (IJCV 2021). Layout:

root/airplane/airplane-1/{img/00000001.jpg, ..., groundtruth.txt, full_occlusion.txt, out_of_view.txt}
root/att/airplane-1.txt, if attributes are asked for; the folder is annos/att of the authors' evaluation toolkit
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.readers.attribute_files import read_attribute_files
from datamodules.readers.completeness import read_listed
from datamodules.readers.listing import check_frames_match_boxes, list_frames
from datamodules.readers.official_lists import count_official, read_official_list
from datamodules.sequences.annotations import read_bytes, read_labels, read_numbers
from datamodules.sequences.attributes import Attributes
from datamodules.sequences.index import SequenceFiles
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

FILES = ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt")
# In the order of run_tracker_performance_evaluation.m of the authors' toolkit, HengLan/LaSOT_Evaluation_Toolkit.
ATTRIBUTES = (
    *("illumination variation", "partial occlusion", "deformation", "motion blur", "camera motion", "rotation"),
    *("background clutter", "viewpoint change", "scale variation", "full occlusion", "fast motion", "out-of-view"),
    *("low resolution", "aspect ratio change"),
)
LABELLED = {"full occlusion": "full_occlusion.txt", "out-of-view": "out_of_view.txt"}


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
    table = read_listed(f"LaSOT's {split} split", root, listed, _read, cache, only_complete, whole)
    return replace(table, read_attributes=partial(_read_attributes, root, has_toolkit=split != "extension"))


def _read_attributes(root: Path, names: Iterable[str], has_toolkit: bool) -> Attributes:
    """Reads the files of the toolkit; without them, what the labels of frames tell: full occlusion and out-of-view."""
    names, source = list(names), "annos/att of github.com/HengLan/LaSOT_Evaluation_Toolkit"
    found = read_attribute_files(names, ATTRIBUTES, (root / "att", root / "annos" / "att"), source)
    if found.groups:
        return found
    labelled = {
        attribute: frozenset(name for name in names if _is_labelled(_sequence_folder(root, name) / file))
        for attribute, file in LABELLED.items()
    }
    return Attributes({attribute: group for attribute, group in labelled.items() if group}, has_toolkit * found.note)


def _is_labelled(file: Path) -> bool:
    """Returns whether a file of labels marks any frame."""
    return file.is_file() and b"1" in read_bytes(file)


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
