"""Your own videos."""

import os
from pathlib import Path

import numpy as np

from datamodules.frames.pictures import UnreadableFrameError, video_length
from datamodules.readers.listing import SUFFIXES, check_counts, frames_in
from datamodules.sequences.annotations import DataError, read_numbers
from datamodules.sequences.index import Entry, indexed
from datamodules.sequences.sequence import NumberedFrames, Sequence
from datamodules.sequences.table import SequenceTable

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")


def read_folder(
    root: str | Path, annotation: str | Path | None = None, cache: str | Path | None = None
) -> SequenceTable:
    """Reads one video or several.

    - A folder of frames, or of `img` with the frames, and `groundtruth.txt`: one video.
    - A file `walk.mp4` (or .avi, .mov, .mkv, .webm) and `walk.txt` beside it: one video.
    - A folder of such folders and files: all of them, by name.
    - The text holds a line x,y,w,h in pixels for each frame, or only one, for the first.
    - Where the object is absent, the line is 0,0,0,0. Names of frames count: 10.jpg comes after 9.jpg.

    Args:
        root: one of these.
        annotation: a text that lies elsewhere, if `root` is one video.
        cache: see `indexed`.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    root = Path(root).expanduser().absolute()
    if not root.exists():
        raise DataError(f"there is no {root}; give a folder of frames, a video file, or a folder of these")
    if _is_video(root):
        return indexed(root.parent, [_entry(root, annotation)], _read, cache)
    if annotation is not None:
        raise DataError(f"annotation={annotation} is for one video, and {root} is none; leave it null")
    places = sorted(place for place in root.iterdir() if _is_video(place)) if root.is_dir() else []
    if not places:
        raise DataError(f"{root} holds neither frames ({', '.join(SUFFIXES)}) nor videos ({', '.join(VIDEOS)})")
    return indexed(root, [_entry(place, None) for place in places], _read, cache)


def _is_video(place: Path) -> bool:
    if place.name.startswith("."):
        return False
    if not place.is_dir():
        return place.suffix.lower() in VIDEOS
    return (place / "groundtruth.txt").is_file() or any(
        n.lower().endswith(SUFFIXES) for n in os.listdir(_frames(place))
    )


def _frames(place: Path) -> Path:
    return place / "img" if (place / "img").is_dir() else place


def _entry(place: Path, annotation: str | Path | None) -> Entry:
    folder = place.is_dir()
    usual = place / "groundtruth.txt" if folder else place.with_suffix(".txt")
    file = usual if annotation is None else Path(annotation).expanduser().absolute()
    if not file.is_file():
        raise DataError(f"{place} has no annotation {file}: write x,y,w,h of the object in the first frame into it")
    return Entry(place.name if folder else place.stem, _frames(place) if folder else place, (file,))


def _read(entry: Entry) -> Sequence:
    boxes = read_numbers(entry.files[0], columns=4)
    if entry.folder.is_dir():
        frames = frames_in(entry.folder)
    else:
        try:
            frames = NumberedFrames("", 0, 1, "", video_length(entry.folder))
        except UnreadableFrameError as error:
            raise DataError(f"the video {entry.folder} cannot be opened: is it a video, and whole?") from error
    if len(boxes) != 1:
        check_counts(entry.folder, len(frames), len(boxes))
    if not (boxes[0, 2:] > 0).all():
        raise DataError(f"{entry.files[0]} starts with {boxes[0].tolist()}: the first box must have width and height")
    return Sequence(entry.name, entry.folder, frames, boxes, np.zeros(len(boxes), bool))
