"""Reader of COCO (Lin et al., ECCV 2014): each annotated object is a sequence of one still picture. Layout:

root/annotations/instances_train2017.json, root/images/train2017/000000000009.jpg
"""

import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from datamodules.errors import DataError, DataSettingError
from datamodules.frames.pictures import read_picture
from datamodules.readers.completeness import USE, describe_archives, describe_missing, find_root
from datamodules.sequences.annotations import read_bytes
from datamodules.sequences.index import SequenceFiles, cached_table
from datamodules.sequences.table import SequenceTable

LARGEST = 1e9  # pixels; NaN and infinity, which Python's JSON allows, are no coordinates either
Entry = dict[str, Any]


def read_coco(
    root: str | Path, split: str = "train2017", cache: str | Path | None = None, only_complete: bool = False
) -> SequenceTable:
    """Reads each annotated object that is not a crowd as a sequence of one still picture, named by the annotation's id.

    Exports of annotation tools may leave out `iscrowd`, which then is 0, and sizes, which are read from the pictures.

    Args:
        root: folder with `annotations` and `images`. The folder of pictures may also lie beside `annotations`.
        split: e.g. "train2017" or "train2014".
        cache: see `cached_table`.
        only_complete: whether objects whose pictures are missing are left out. If not, they are an error.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    root = find_root(root, "COCO", f"annotations/instances_{split}.json")
    folder = root / "images" / split if (root / "images" / split).is_dir() else root / split
    files = SequenceFiles(split, folder, (root / "annotations" / f"instances_{split}.json",))
    return cached_table(root, [files], lambda: _read(root, files, only_complete), cache, only_complete)


def _read(root: Path, files: SequenceFiles, only_complete: bool) -> SequenceTable:
    (annotation,) = files.annotations
    pictures, objects = _load(annotation)
    by_id = _by_id(pictures, "images", annotation)
    _by_id(objects, "annotations", annotation)
    objects = [o for o in objects if not o.get("iscrowd")]
    lost = next((o for o in objects if not (_is_id(o.get("image_id")) and o["image_id"] in by_id)), None)
    if lost is not None:
        raise DataError(
            f"{annotation}: annotation {lost['id']} has image_id={lost.get('image_id')!r}, which is the id of no "
            "picture in 'images'; add the picture, or drop the annotation"
        )
    shown = [by_id[o["image_id"]] for o in objects]
    listed, whole = set(_strings(shown, "file_name", annotation).tolist()), len(objects)
    missing = _missing_pictures(root, files.folder, listed, only_complete)
    objects = [o for o in objects if by_id[o["image_id"]]["file_name"] not in missing]
    shown = [by_id[o["image_id"]] for o in objects]
    names = np.array([picture["file_name"] for picture in shown], np.str_)
    boxes = _boxes(objects, annotation)
    sizes = _sizes(shown, files.folder, annotation)
    ids = np.array([o["id"] for o in objects], np.str_)
    return replace(SequenceTable.from_pictures(root, files.folder, ids, names, boxes, sizes), whole=whole)


def _load(annotation: Path) -> tuple[list[Entry], list[Entry]]:
    """Returns the entries "images" and "annotations" of an annotation file."""
    try:
        data = json.loads(read_bytes(annotation))
    except UnicodeDecodeError as error:
        raise DataError(f"{annotation} is no UTF-8 text; save it as UTF-8") from error
    except RecursionError as error:
        raise DataError(f"{annotation} is no annotation of COCO: its lists are nested too deeply") from error
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
        why = "it ends too early, so the copy is incomplete: copy it again" if cut else str(error)
        raise DataError(f"{annotation} is no JSON: {why}") from error
    except ValueError as error:
        raise DataError(f"{annotation} holds a number of thousands of digits; copy it again") from error
    for key in ("images", "annotations"):
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(
                f"{annotation} is no annotation of COCO: it must be an object with a list {key!r} of objects, "
                'e.g. {"images": [...], "annotations": [...], "categories": [...]}'
            )
    return data["images"], data["annotations"]


def _by_id(entries: list[Entry], key: str, annotation: Path) -> dict[int | str, Entry]:
    """Returns entries by their ids, which are whole numbers or texts."""
    found: dict[int | str, Entry] = {}
    for i, entry in enumerate(entries):
        name = entry.get("id")
        if not _is_id(name):
            raise DataError(
                f"{annotation}: entry {i} of {key!r} has the id {name!r}; an id is a whole number or a text, e.g. 9"
            )
        if name in found:
            raise DataError(f"{annotation}: two entries of {key!r} have the id {name!r}")
        found[name] = entry
    return found


def _strings(entries: list[Entry], key: str, annotation: Path) -> np.ndarray:
    for entry in entries:
        if not isinstance(entry.get(key), str):
            raise DataError(f"{annotation}: picture {entry['id']} has {key}={entry.get(key)!r}; it must be a text")
    return np.array([entry[key] for entry in entries], np.str_)


def _boxes(objects: list[Entry], annotation: Path) -> np.ndarray:
    """Returns the boxes (n, 4)."""
    for o in objects:
        box = o.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            raise DataError(
                f"{annotation}: annotation {o['id']} has bbox={box!r}; it must be 4 numbers x, y, width, height"
            )
    return np.array([o["bbox"] for o in objects], np.float64).reshape(-1, 4)


def _sizes(pictures: list[Entry], folder: Path, annotation: Path) -> np.ndarray:
    """Returns (width, height) of the pictures, (n, 2) int32. If an export leaves them out, the files tell."""
    measure = cache(lambda path: read_picture(path).shape[1::-1])  # several objects share a picture
    sizes = []
    for picture in pictures:
        size = picture.get("width"), picture.get("height")
        if None in size:
            size = measure(folder / picture["file_name"])
        if not all(type(side) is int and 0 < side < 2**31 for side in size):
            raise DataError(
                f"{annotation}: picture {picture['id']} has the size {size}; it must be whole numbers of pixels"
            )
        sizes.append(size)
    return np.array(sizes, np.int32).reshape(-1, 2)


def _is_id(value: Any) -> TypeGuard[int | str]:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LARGEST


def _missing_pictures(root: Path, folder: Path, listed: set[str], only_complete: bool) -> set[str]:
    """Returns the names of annotated pictures that are missing; without `only_complete` there may be none."""
    places = [root / "images" / folder.name, root / "annotations" / folder.name]
    if not folder.is_dir():
        raise DataError(
            f"no pictures of COCO at {root}: neither images/{folder.name} nor {folder.name} is a folder of it"
            f"{describe_archives(root, places)}. Put the pictures into {places[0]}"
        )
    missing = listed - set(os.listdir(folder))
    if missing and (missing == listed or not only_complete):
        said = (
            f"COCO at {folder} is incomplete: {len(listed) - len(missing)} of its {len(listed)} annotated pictures are "
            f"there, {describe_missing(sorted(missing))}{describe_archives(root, places)}"
        )
        if missing == listed:
            raise DataError(f"{said}. Copy the pictures again")
        raise DataSettingError(said, USE, "only_complete=true")
    return missing
