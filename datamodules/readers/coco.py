"""COCO (Lin et al., ECCV 2014): pictures as still videos.

root/annotations/instances_train2017.json, root/images/train2017/000000000009.jpg
"""

import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO

from datamodules.readers.listing import data_root
from datamodules.sequences.annotations import DataError
from datamodules.sequences.index import Entry, remembered
from datamodules.sequences.table import SequenceTable


def read_coco(root: str | Path, split: str = "train2017", cache: str | Path | None = None) -> SequenceTable:
    """Makes each annotated object that is not a crowd a sequence of one still picture, named by the annotation's id.

    Args:
        root: the folder with `annotations` and `images`; the folder of pictures may also lie beside `annotations`.
        split: e.g. "train2017" or "train2014".
        cache: see `indexed`.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    root = data_root(root, "COCO", f"annotations/instances_{split}.json")
    folder = root / "images" / split if (root / "images" / split).is_dir() else root / split
    entry = Entry(split, folder, (root / "annotations" / f"instances_{split}.json",))
    return remembered(root, [entry], lambda: _read(root, entry), cache)


def _read(root: Path, entry: Entry) -> SequenceTable:
    try:
        with redirect_stdout(StringIO()):
            coco = COCO(entry.files[0])
        objects = coco.loadAnns(coco.getAnnIds(iscrowd=False))
        pictures = coco.loadImgs([o["image_id"] for o in objects])
        names = np.array([o["id"] for o in objects], np.str_)
        files = np.array([p["file_name"] for p in pictures], np.str_)
        sizes = np.array([(p["width"], p["height"]) for p in pictures], np.int32).reshape(-1, 2)
        boxes = np.array([o["bbox"] for o in objects], np.float64).reshape(-1, 4)
    except (ValueError, TypeError, KeyError, AssertionError, OverflowError) as error:
        raise DataError(f"{entry.files[0]} is no annotation of COCO, or damaged: {error!r}. Copy it again") from error
    if (
        boxes.shape != (len(names), 4)
        or not np.isfinite(boxes).all()
        or len(coco.anns) != len(coco.dataset["annotations"])
    ):
        raise DataError(f"{entry.files[0]} has boxes that are not 4 numbers, or one id twice. Copy it again")
    _check_pictures(entry.folder, files)
    return SequenceTable.of_pictures(root, entry.folder, names, files, boxes, sizes)


def _check_pictures(folder: Path, files: np.ndarray) -> None:
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    listed = set(files.tolist())
    if missing := listed - present:
        raise DataError(
            f"{len(missing)} of {len(listed)} annotated pictures are missing in {folder}, one is {min(missing)}: "
            "the copy is incomplete"
        )
