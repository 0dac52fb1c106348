"""Reader of NfS, Need for Speed (Kiani Galoogahi et al., ICCV 2017). Layout:

root/airboard_1/30/{airboard_1/00001.jpg, ..., airboard_1.txt}, root/airboard_1/240/...
"""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.readers.completeness import read_listed
from datamodules.readers.listing import check_frames_match_boxes, list_frames
from datamodules.readers.official_lists import count_official, read_official_list
from datamodules.sequences.annotations import SHOWN, read_bytes
from datamodules.sequences.index import SequenceFiles
from datamodules.sequences.sequence import Sequence, sort_frames
from datamodules.sequences.table import SequenceTable

# A line of the annotation tool VATIC: track, left, top, right, bottom, frame, lost, occluded, generated, "label".
LINE = re.compile(rb'\d+((?:[ \t]+-?\d{1,9}){4})[ \t]+\d+(?:[ \t]+[01]){3}[ \t]+"[^"\r\n]*".*')


def read_nfs(
    root: str | Path,
    fps: int = 30,
    names: Collection[str] | None = None,
    cache: str | Path | None = None,
    only_complete: bool = False,
) -> SequenceTable:
    """Reads the sequences at one frame rate. Annotations are for 240 frames a second; at 30, every eighth line is used.

    Args:
        root: folder with the folders of sequences.
        fps: 30 or 240.
        names: sequences to read; None reads all.
        cache, only_complete: see `read_listed`.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    root = Path(root).expanduser().absolute()
    names, whole = [row["name"] for row in read_official_list("nfs", str(fps), names)], count_official("nfs", str(fps))
    folders = [root / name / str(fps) / name for name in names]
    listed = [SequenceFiles(n, f, (f.with_name(f"{n}.txt"),)) for n, f in zip(names, folders, strict=True)]

    def read(files: SequenceFiles) -> Sequence:
        return _read(files, step=240 // fps)

    return read_listed(f"NfS at {fps} frames a second", root, listed, read, cache, only_complete, whole)


def _read(files: SequenceFiles, step: int) -> Sequence:
    frames, boxes = list_frames(files.folder), _read_boxes(files.annotations[0])[::step]
    # Some sequences have one frame or one box too many. The got10k toolkit drops it as well.
    if abs(len(frames) - len(boxes)) == 1:
        shorter = min(len(frames), len(boxes))
        frames, boxes = sort_frames(list(frames)[:shorter]), boxes[:shorter]
    check_frames_match_boxes(files.folder, len(frames), len(boxes))
    return Sequence(files.name, files.folder, frames, boxes, np.zeros(len(boxes), bool))


def _read_boxes(path: Path) -> np.ndarray:
    """Returns the boxes of a VATIC file, xywh in pixels, (n, 4)."""
    lines = read_bytes(path).rstrip().splitlines()
    corners = np.empty((len(lines), 4))
    for i, line in enumerate(lines):
        found = LINE.fullmatch(line.strip())
        if not found:
            raise DataError(
                f'{path} must hold 9 whole numbers and a "label" on each line; line {i + 1} is {line[:SHOWN]!r}'
            )
        corners[i] = found[1].split()
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
