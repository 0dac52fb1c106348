"""NfS, Need for Speed (Kiani Galoogahi et al., ICCV 2017).

root/airboard_1/30/{airboard_1/00001.jpg, ..., airboard_1.txt}, root/airboard_1/240/...
"""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from datamodules.readers.listing import check_counts, check_present, data_root, frames_in
from datamodules.readers.official_lists import official
from datamodules.sequences.annotations import DataError
from datamodules.sequences.index import Entry, indexed
from datamodules.sequences.sequence import Sequence, frames_of
from datamodules.sequences.table import SequenceTable

# As the annotation tool VATIC writes: track, left, top, right, bottom, frame, lost, occluded, generated, "label".
LINE = re.compile(rb'\d+((?:[ \t]+-?\d{1,9}){4})[ \t]+\d+(?:[ \t]+[01]){3}[ \t]+"[^"\r\n]*".*')


def read_nfs(
    root: str | Path, fps: int = 30, names: Collection[str] | None = None, cache: str | Path | None = None
) -> SequenceTable:
    """Reads the sequences at one frame rate. They are annotated at 240 frames a second; at 30, each eighth line counts.

    Args:
        root: the folder with the folders of sequences.
        fps: 30 or 240.
        names: of the sequences to take; None for all.
        cache: see `indexed`.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    root = data_root(root, "NfS", "")
    names = [row["name"] for row in official("nfs", str(fps), names)]
    places = [root / name / str(fps) / name for name in names]
    check_present(names, places, f"NfS at {fps} frames a second")
    entries = [Entry(n, place, (place.with_name(f"{n}.txt"),)) for n, place in zip(names, places, strict=True)]
    return indexed(root, entries, lambda entry: _read(entry, step=240 // fps), cache)


def _read(entry: Entry, step: int) -> Sequence:
    frames, boxes = frames_in(entry.folder), _read_boxes(entry.files[0])[::step]
    if abs(len(frames) - len(boxes)) == 1:  # as some are; the got10k toolkit leaves the odd one out as well
        shorter = min(len(frames), len(boxes))
        frames, boxes = frames_of(list(frames)[:shorter]), boxes[:shorter]
    check_counts(entry.folder, len(frames), len(boxes))
    return Sequence(entry.name, entry.folder, frames, boxes, np.zeros(len(boxes), bool))


def _read_boxes(path: Path) -> np.ndarray:
    """The xywh boxes of an annotation, (n, 4)."""
    try:
        lines = path.read_bytes().rstrip().splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the copy of this sequence is incomplete") from None
    corners = np.empty((len(lines), 4))
    for i, line in enumerate(lines):
        found = LINE.fullmatch(line.strip())
        if not found:
            raise DataError(f'{path} must hold 9 whole numbers and a "label" a line; line {i + 1} is {line!r}')
        corners[i] = found[1].split()
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
