"""Reader of COCO (Lin et al., ECCV 2014): each annotated object is a sequence of one still picture. Layout:

root/annotations/instances_train2017.json, root/images/train2017/000000000009.jpg
"""

import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from datamodules.readers.listing import find_root
from datamodules.sequences.annotations import DataError
from datamodules.sequences.index import SequenceFiles, cached_table
from datamodules.sequences.table import SequenceTable


def read_coco(root: str | Path, split: str = "train2017", cache: str | Path | None = None) -> SequenceTable:
    """Reads each annotated object that is not a crowd as a sequence of one still picture, named by the annotation's id.

    Args:
        root: folder with `annotations` and `images`. The folder of pictures may also lie beside `annotations`.
        split: e.g. "train2017" or "train2014".
        cache: see `cached_table`.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    root = find_root(root, "COCO", f"annotations/instances_{split}.json")
    folder = root / "images" / split if (root / "images" / split).is_dir() else root / split
    files = SequenceFiles(split, folder, (root / "annotations" / f"instances_{split}.json",))
    return cached_table(root, [files], lambda: _read(root, files), cache)


def _read(root: Path, files: SequenceFiles) -> SequenceTable:
    from pycocotools.coco import COCO  # slow to import, as it imports matplotlib

    (annotation,) = files.annotations
    try:
        with redirect_stdout(StringIO()):
            coco = COCO(annotation)
        objects = coco.loadAnns(coco.getAnnIds(iscrowd=False))
        images = coco.loadImgs([o["image_id"] for o in objects])
        names = np.array([o["id"] for o in objects], np.str_)
        pictures = np.array([p["file_name"] for p in images], np.str_)
        sizes = np.array([(p["width"], p["height"]) for p in images], np.int32).reshape(-1, 2)
        boxes = np.array([o["bbox"] for o in objects], np.float64).reshape(-1, 4)
    except (ValueError, TypeError, KeyError, AssertionError, OverflowError) as error:
        raise DataError(f"{annotation} is no annotation of COCO, or damaged: {error!r}. Copy it again") from error
    if (
        boxes.shape != (len(names), 4)
        or not np.isfinite(boxes).all()
        or len(coco.anns) != len(coco.dataset["annotations"])
    ):
        raise DataError(f"{annotation} has boxes that are not 4 numbers, or one id twice. Copy it again")
    _check_pictures(files.folder, pictures)
    return SequenceTable.from_pictures(root, files.folder, names, pictures, boxes, sizes)


def _check_pictures(folder: Path, pictures: np.ndarray) -> None:
    present = set(os.listdir(folder)) if folder.is_dir() else set()
    listed = set(pictures.tolist())
    if missing := listed - present:
        raise DataError(
            f"{len(missing)} of {len(listed)} annotated pictures are missing in {folder}, one is {min(missing)}: "
            "the copy is incomplete"
        )
