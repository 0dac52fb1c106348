"""Reader of OTB-2013 and OTB-2015 (Wu et al., CVPR 2013 and TPAMI 2015). Layout:

root/Basketball/{img/0001.jpg, ..., groundtruth_rect.txt}
root/att/basketball.txt, if attributes are asked for; the folder is anno/att of the authors' MATLAB toolkit
"""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.readers.attribute_files import read_attribute_files
from datamodules.readers.completeness import read_listed
from datamodules.readers.listing import check_frames_match_boxes, list_numbered_frames
from datamodules.readers.official_lists import count_official, read_official_list
from datamodules.sequences.annotations import read_numbers
from datamodules.sequences.index import SequenceFiles
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

TIGER1_FIRST = (1, 6)
# In the order of perfPlot.m of the authors' toolkit, tracker_benchmark_v1.0.
ATTRIBUTES = (
    *("illumination variation", "out-of-plane rotation", "scale variation", "occlusion", "deformation", "motion blur"),
    *("fast motion", "in-plane rotation", "out of view", "background clutter", "low resolution"),
)


def read_otb(
    root: str | Path,
    version: str = "otb100",
    tiger1_first: int = 1,
    names: Collection[str] | None = None,
    cache: str | Path | None = None,
    only_complete: bool = False,
) -> SequenceTable:
    """Reads one version. Names are spelled as in the got10k toolkit ("Jogging.1").

    A folder may hold more pictures than are annotated (David: 300 to 770), or two objects (Jogging, Skating2).

    Args:
        root: folder with the folders of sequences.
        version: "otb100" (OTB-2015), "otb2013" (51) or "otb50" (the harder half of OTB-2015, TB-50).
        tiger1_first: number of Tiger1's first frame: 1, as in the got10k toolkit, or 6, as in pytracking and OSTrack.
            Results of the two have different lengths.
        names: sequences to read; None reads all.
        cache, only_complete: see `read_listed`.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    if tiger1_first not in TIGER1_FIRST:
        raise DataError(f"tiger1_first={tiger1_first} must be 1 (got10k) or 6 (pytracking, OSTrack)")
    root = Path(root).expanduser().absolute()
    rows = {row["name"]: row for row in read_official_list("otb", version, names)}
    listed = [_sequence_files(root, row, tiger1_first) for row in rows.values()]

    def read(files: SequenceFiles) -> Sequence:
        return _read(files, int(rows[files.name]["first"]))

    whole = count_official("otb", version)
    table = read_listed(f"OTB ({version})", root, listed, read, cache, only_complete, whole)
    return replace(
        table,
        read_attributes=partial(
            read_attribute_files,
            columns=ATTRIBUTES,
            places=(root / "att", root / "anno" / "att"),
            source="anno/att of the authors' toolkit (tracker_benchmark_v1.0)",
            aliases={"Human4": "Human4-2"},
        ),
    )


def _sequence_files(root: Path, row: dict[str, str], tiger1_first: int) -> SequenceFiles:
    folder, first = root / row["folder"], tiger1_first if row["name"] == "Tiger1" else int(row["first"])
    return SequenceFiles(row["name"], folder / "img", (folder / row["annotation"],), (first, int(row["last"])))


def _read(files: SequenceFiles, annotated_from: int) -> Sequence:
    assert files.frame_numbers is not None  # `_sequence_files` sets them
    first, last = files.frame_numbers
    frames = list_numbered_frames(files.folder, first, last)
    boxes = read_numbers(files.annotations[0], columns=4)
    check_frames_match_boxes(files.folder, last - annotated_from + 1, len(boxes))
    boxes = boxes[first - annotated_from :]
    return Sequence(files.name, files.folder, frames, boxes, np.zeros(len(boxes), bool))
