"""Reader of your own videos: folders of frames, and video files."""

import os
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, IncompleteSequenceError
from datamodules.frames.pictures import UnreadableFrameError
from datamodules.frames.video import index_video
from datamodules.readers.listing import PICTURE_SUFFIXES, list_frames
from datamodules.sequences.annotations import read_numbers
from datamodules.sequences.index import SequenceFiles, read_sequences
from datamodules.sequences.sequence import NumberedFrames, Sequence
from datamodules.sequences.table import SequenceTable

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv")


def read_folder(
    root: str | Path, annotation: str | Path | None = None, cache: str | Path | None = None
) -> SequenceTable:
    """Reads one video, or all videos in a folder.

    `root` is one of these:

    - A folder of frames, or of `img` with the frames, and `groundtruth.txt`: one video.
    - A file `walk.mp4` (or another of `VIDEO_SUFFIXES`) and `walk.txt` beside it: one video.
    - A folder of such folders and files: all of them, sorted by name.

    The text file holds one line x,y,w,h in pixels for each frame, or a single line for the first frame. A line 0,0,0,0
    means that the object is absent. Frames are sorted by number: 10.jpg comes after 9.jpg.

    Args:
        root: as above.
        annotation: text file elsewhere, if `root` is one video.
        cache: see `read_sequences`.

    Raises:
        DataError: a video or annotation is missing, incomplete or damaged; the message says what to do.
    """
    root = Path(root).expanduser().absolute()
    if not root.exists():
        raise DataError(
            f"{root} does not exist. Give a folder of frames, a video file, or a folder of these. datamodule=folder "
            "reads folder/train and folder/val below paths.data, e.g. paths.data=/data"
        )
    if _is_video(root):
        return read_sequences(root.parent, [_video_files(root, annotation)], _read, cache)
    if annotation is not None:
        raise DataError(f"annotation={annotation} is for one video, and {root} is not one; set annotation=null")
    videos = sorted(path for path in root.iterdir() if _is_video(path)) if root.is_dir() else []
    if not videos:
        raise DataError(
            f"{root} holds neither frames ({', '.join(PICTURE_SUFFIXES)}) nor videos ({', '.join(VIDEO_SUFFIXES)})"
        )
    return read_sequences(root, [_video_files(video, None) for video in videos], _read, cache)


def _is_video(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    if not path.is_dir():
        return path.suffix.lower() in VIDEO_SUFFIXES
    return (path / "groundtruth.txt").is_file() or any(
        n.lower().endswith(PICTURE_SUFFIXES) for n in os.listdir(_frame_folder(path))
    )


def _frame_folder(path: Path) -> Path:
    return path / "img" if (path / "img").is_dir() else path


def _video_files(path: Path, annotation: str | Path | None) -> SequenceFiles:
    is_folder = path.is_dir()
    default = path / "groundtruth.txt" if is_folder else path.with_suffix(".txt")
    file = default if annotation is None else Path(annotation).expanduser().absolute()
    if not file.is_file():
        raise DataError(
            f"{path} has no annotation {file}: write a line x,y,w,h into it for each frame, the box of the object in "
            "pixels. A single line, for the first frame, is enough to see it tracked (eval.py action=show), but not to "
            "score or train on it"
        )
    return SequenceFiles(path.name if is_folder else path.stem, _frame_folder(path) if is_folder else path, (file,))


def _read(files: SequenceFiles) -> Sequence:
    (annotation,) = files.annotations
    boxes = read_numbers(annotation, columns=4)
    if files.folder.is_dir():
        frames, video, resolution = list_frames(files.folder), None, None
    else:
        try:
            video, resolution = index_video(files.folder)
        except UnreadableFrameError as error:
            raise DataError(f"the video {files.folder} cannot be read: {error.reason}") from error
        frames = NumberedFrames("frame ", 0, 1, "", len(video))
    if len(boxes) not in (1, len(frames)):
        raise IncompleteSequenceError(
            f"{files.folder} has {len(frames)} frames and {len(boxes)} annotated boxes: the copy is incomplete, or "
            f"{annotation} is. Write a line for each frame into it, 0,0,0,0 where the object is absent, or a single "
            "line for the first frame"
        )
    if not (boxes[0, 2:] > 0).all():
        raise DataError(f"{annotation} starts with {boxes[0].tolist()}: the first box must have width and height")
    absent = np.zeros(len(boxes), bool)
    return Sequence(files.name, files.folder, frames, boxes, absent, resolution=resolution, video=video)
