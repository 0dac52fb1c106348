"""Finds annotated boxes that no crop can show: outside of their picture, not finite, or far larger than the picture."""

from dataclasses import replace

import numpy as np

from datamodules.frames.pictures import UnreadableFrameError
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

LARGEST = 16  # largest width or height of a box, in pictures; the memory of a crop grows with the box
MAX_READ = 5000  # number of pictures whose size is read; in larger data sets, only crops tell


def fits_picture(boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Returns which boxes show a part of their picture and are not far larger than it, (...) bool.

    Args:
        boxes: xywh in pixels, (..., 4), with positive width and height or NaN.
        size: (width, height) of the pictures, (..., 2); infinity if it is not known.
    """
    low, extent = boxes[..., :2], boxes[..., 2:]
    overlap = (low < size) & (low + extent > 0) & (extent <= LARGEST * size)
    return np.asarray((overlap & np.isfinite(low) & np.isfinite(extent)).all(-1))


def without_outside_boxes(table: SequenceTable) -> tuple[SequenceTable, str]:
    """Empties the boxes that do not fit their pictures, which is how data sets mark frames without the target.

    Sizes are those of the data set, or else of the first frames. A frame of another size is read.

    Returns:
        The table, and a sentence that counts and names the frames; "" if there are none.
    """
    columns = table.columns
    ends, boxes = columns["box_end"], columns["boxes"]
    starts = np.concatenate([[0], ends[:-1]]).astype(int)
    rows = np.repeat(np.arange(len(table)), ends - starts)
    empty = (boxes[:, 2:] <= 0).any(1)
    outside = np.flatnonzero(~empty & ~fits_picture(boxes, _sizes(table)[rows]))
    if len(outside) <= MAX_READ:
        outside = np.array([i for i in outside if not _fits_own_picture(table[rows[i]], i - starts[rows[i]])], int)
    if not len(outside):
        return table, ""
    first = table[rows[outside[0]]]
    emptied = boxes.copy()
    emptied[outside] = 0
    place = f"{first.folder}, frame {outside[0] - starts[rows[outside[0]]] + 1}"
    return replace(table, columns=columns | {"boxes": emptied}), (
        f"{len(outside)} frames of {len(set(rows[outside]))} sequences are not used, because their boxes lie outside "
        f"of the picture or are far too large, e.g. {boxes[outside[0]].tolist()} in {place}"
    )


def _sizes(table: SequenceTable) -> np.ndarray:
    """Returns (width, height) of all videos, (len(table), 2); infinity if it is not known."""
    sizes = table.columns["resolution"].astype(float)
    unknown = np.flatnonzero((sizes == 0).any(1))
    sizes[unknown] = np.inf
    for i in unknown.tolist() if len(unknown) <= MAX_READ else ():
        try:
            sizes[i] = table[i].frame(0).shape[1::-1]
        except UnreadableFrameError:
            continue  # a training tells it when it needs the frame
    return sizes


def _fits_own_picture(sequence: Sequence, number: int) -> bool:
    """Returns whether a box fits its own frame, which may have another size than the first one."""
    if sequence.video is not None:
        return False
    try:
        return bool(fits_picture(sequence.boxes[number], np.array(sequence.frame(number).shape[1::-1], float)))
    except UnreadableFrameError:
        return True  # as above
