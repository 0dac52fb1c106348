"""Writes videos in the official layouts of data sets, which `datamodules.readers` read."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datamodules.sequences.sequence import Sequence

# Videos by the name under which they are written. Their frames are JPEG files.
Videos = Mapping[str, Sequence]


def write_got10k(split: Path, videos: Videos, first_box_only: bool = False) -> None:
    """Writes a split of GOT-10k.

    Args:
        split: folder of the split, e.g. got10k/val.
        videos: annotated videos.
        first_box_only: whether only the first box is written and no label, as in the test split.
    """
    for name, video in videos.items():
        _copy_frames(video, split / name, first=1, digits=8)
        _write_boxes(split / name / "groundtruth.txt", video.boxes[:1] if first_box_only else video.boxes)
        width, height = video.size
        (split / name / "meta_info.ini").write_text(f"[METAINFO]\nresolution: ({width}, {height})\n")
        if not first_box_only:
            cover = np.where(video.absent, 0, 8) if video.cover is None else video.cover
            np.savetxt(split / name / "absence.label", video.absent, "%d")
            np.savetxt(split / name / "cover.label", cover, "%d")
    (split / "list.txt").write_text("".join(f"{name}\n" for name in videos))


def write_lasot(root: Path, videos: Videos) -> None:
    """Writes videos of LaSOT, whose boxes are whole pixels. Absent targets are labelled as out of view.

    Args:
        root: folder of the data set.
        videos: annotated videos by official names, e.g. airplane-1.
    """
    for name, video in videos.items():
        folder = root / name.rpartition("-")[0] / name
        _copy_frames(video, folder / "img", first=1, digits=8)
        _write_boxes(folder / "groundtruth.txt", video.boxes, decimals=0)
        for label, values in (("full_occlusion", np.zeros_like(video.absent)), ("out_of_view", video.absent)):
            (folder / f"{label}.txt").write_text(",".join(map(str, values.astype(int).tolist())) + "\n")


def write_trackingnet(chunk: Path, videos: Videos, first_box_only: bool = False) -> None:
    """Writes a chunk of TrackingNet.

    Args:
        chunk: folder of the chunk, e.g. trackingnet/TRAIN_0.
        videos: annotated videos.
        first_box_only: whether only the first box is written, as in TEST.
    """
    for name, video in videos.items():
        _copy_frames(video, chunk / "frames" / name, first=0, digits=1)
        _write_boxes(chunk / "anno" / f"{name}.txt", video.boxes[:1] if first_box_only else video.boxes)


def write_coco(root: Path, split: str, videos: Videos) -> None:
    """Writes pictures of COCO with one object each: the first frames of videos, whose names are not used.

    Args:
        root: folder of the data set.
        split: e.g. "train2017".
        videos: annotated videos.
    """
    folder, images, annotations = root / "images" / split, [], []
    folder.mkdir(parents=True)
    for i, video in enumerate(videos.values(), 1):
        name, (width, height), box = f"{i:012d}.jpg", video.size, video.boxes[0].tolist()
        shutil.copyfile(video.folder / video.frames[0], folder / name)
        images.append({"id": i, "file_name": name, "width": width, "height": height})
        annotations.append({"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def _copy_frames(video: Sequence, folder: Path, first: int, digits: int) -> None:
    """Copies the frames of a video under the numbers that start with `first`."""
    folder.mkdir(parents=True)
    for i, name in enumerate(video.frames, first):
        shutil.copyfile(video.folder / name, folder / f"{i:0{digits}d}.jpg")


def _write_boxes(path: Path, boxes: np.ndarray, decimals: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, boxes.round(decimals), f"%.{decimals}f", ",")
