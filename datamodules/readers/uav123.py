"""Reader of UAV123 and UAV20L (Mueller et al., ECCV 2016). Layout:

root/anno/{UAV123, UAV20L}/{bike1.txt, att/bike1.txt}, root/data_seq/UAV123/bike1/000001.jpg
"""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.readers.attribute_files import read_attribute_files
from datamodules.readers.completeness import find_root, read_listed
from datamodules.readers.listing import check_frames_match_boxes, list_numbered_frames
from datamodules.readers.official_lists import count_official, read_official_list
from datamodules.sequences.annotations import read_numbers
from datamodules.sequences.index import SequenceFiles
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

# In the order of DatasetAnnotation.pdf, which comes with the data set.
ATTRIBUTES = (
    *("scale variation", "aspect ratio change", "low resolution", "fast motion", "full occlusion", "partial occlusion"),
    *("out-of-view", "background clutter", "illumination variation", "viewpoint change", "camera motion"),
    "similar object",
)


def read_uav123(
    root: str | Path,
    version: str = "uav123",
    names: Collection[str] | None = None,
    cache: str | Path | None = None,
    only_complete: bool = False,
) -> SequenceTable:
    """Reads one version. A NaN box means that the object is absent. Several sequences may share a folder of frames.

    Args:
        root: folder with `anno` and `data_seq`.
        version: "uav123", or "uav20l" (20 long sequences).
        names: sequences to read; None reads all.
        cache, only_complete: see `read_listed`.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    rows = read_official_list("uav123", version, names)
    root = find_root(root, "UAV123", f"anno/{version.upper()}")
    listed = [_sequence_files(root, row, version) for row in rows]
    whole = count_official("uav123", version)
    table = read_listed(version.upper(), root, listed, _read, cache, only_complete, whole)
    return replace(
        table,
        read_attributes=partial(
            read_attribute_files,
            columns=ATTRIBUTES,
            places=(root / "anno" / version.upper() / "att",),
            source=f"anno/{version.upper()}/att of the official archive",
        ),
    )


def _sequence_files(root: Path, row: dict[str, str], version: str) -> SequenceFiles:
    folder = root / "data_seq" / "UAV123" / row["folder"]
    annotation = root / "anno" / version.upper() / f"{row['name']}.txt"
    return SequenceFiles(row["name"], folder, (annotation,), (int(row["first"]), int(row["last"])))


def _read(files: SequenceFiles) -> Sequence:
    assert files.frame_numbers is not None  # `_sequence_files` sets them
    frames = list_numbered_frames(files.folder, *files.frame_numbers)
    boxes = read_numbers(files.annotations[0], columns=4, nan=True)
    check_frames_match_boxes(files.folder, len(frames), len(boxes))
    return Sequence(files.name, files.folder, frames, boxes, np.zeros(len(boxes), bool))
