"""Reader of GOT-10k (Huang et al., TPAMI 2021). Layout:

root/train/list.txt, root/train/GOT-10k_Train_000001/{00000001.jpg, ..., groundtruth.txt, absence.label, cover.label}
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.readers.completeness import find_root, read_listed
from datamodules.readers.listing import check_frames_match_boxes, list_frames
from datamodules.sequences.annotations import read_bytes, read_labels, read_lines, read_numbers
from datamodules.sequences.attributes import Attributes
from datamodules.sequences.index import SequenceFiles, check_names
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

FILES = ("groundtruth.txt", "absence.label", "cover.label", "meta_info.ini")
CLASSES = ("motion_class", "root_class", "major_class", "object_class", "motion_adverb")  # in meta_info.ini


def read_got10k(
    root: str | Path,
    split: str,
    subset: str | Path | None = None,
    cache: str | Path | None = None,
    only_complete: bool = False,
) -> SequenceTable:
    """Reads one split. In `test`, only the first frame of each sequence is annotated.

    Args:
        root: folder with `train`, `val`, `test`.
        split: folder name.
        subset: file with one index into list.txt on each line, the format of published splits (vottrain, ...); None
            reads the whole split.
        cache, only_complete: see `read_listed`.

    Raises:
        DataError: the data set is missing, incomplete or damaged; the message says what to do.
    """
    root = find_root(root, "GOT-10k", f"{split}/list.txt")
    folder = root / split
    listing = folder / "list.txt"
    names = read_lines(listing)
    if not names:
        raise DataError(
            f"{listing} is empty: it must name one sequence folder on each line. Copy it again from the archive"
        )
    if subset is not None:
        names = _choose(names, Path(subset).expanduser(), listing)
    check_names(listing, names)
    listed = [SequenceFiles(name, folder / name, tuple(folder / name / file for file in FILES)) for name in names]
    table = read_listed(f"GOT-10k's {split} split", root, listed, _read, cache, only_complete)
    return replace(table, read_attributes=partial(_read_attributes, folder))


def _read_attributes(folder: Path, names: Iterable[str]) -> Attributes:
    """Reads the classes of object and motion in meta_info.ini, which the train and val splits have."""
    found: dict[str, dict[str, set[str]]] = {key: defaultdict(set) for key in CLASSES}
    for name in names:
        meta = folder / name / "meta_info.ini"
        content = read_bytes(meta) if meta.is_file() else b""
        for key, value in re.findall(rb"^(\w+): *(\S.*?)\s*$", content, re.MULTILINE):
            if key.decode(errors="replace") in found:
                found[key.decode()][value.decode(errors="replace")].add(name)
    groups = {f"{key}: {value}": frozenset(group) for key in CLASSES for value, group in sorted(found[key].items())}
    note = f"{folder}/*/meta_info.ini name no classes; those of GOT-10k's train and val splits do"
    return Attributes(groups, "" if groups else note)


def _choose(names: list[str], subset: Path, listing: Path) -> list[str]:
    if not subset.is_file():
        raise DataError(
            f"the split file {subset} does not exist. It holds one index into {listing} on each line; subset=null "
            "reads the whole split"
        )
    chosen = read_numbers(subset, columns=1)[:, 0]
    if not chosen.size or not np.isin(chosen, np.arange(len(names))).all():
        raise DataError(
            f"{subset} must hold indices from 0 to {len(names) - 1}, as {listing} has {len(names)} sequences"
        )
    return [names[int(i)] for i in chosen]


def _read(files: SequenceFiles) -> Sequence:
    annotation, absence, cover, meta = files.annotations
    frames, boxes = list_frames(files.folder), read_numbers(annotation, columns=4)
    if files.folder.parent.name != "test" or len(boxes) != 1:
        check_frames_match_boxes(files.folder, len(frames), len(boxes))
    # Other data in this layout often comes without labels.
    absent = read_labels(absence, len(boxes)) > 0 if absence.is_file() else np.zeros(len(boxes), bool)
    covered = read_labels(cover, len(boxes), highest=8) if cover.is_file() else None
    return Sequence(files.name, files.folder, frames, boxes, absent, covered, _resolution(meta))


def _resolution(meta: Path) -> tuple[int, int] | None:
    """Returns the resolution in meta_info.ini, to which the protocol clips boxes; None without the file."""
    found = re.search(rb"resolution: *\((\d+), *(\d+)\)", read_bytes(meta)) if meta.is_file() else None
    return (int(found[1]), int(found[2])) if found else None
