"""GOT-10k (Huang et al., TPAMI 2021): the reader of its layout, and the datamodule that trains on it.

root/train/list.txt, root/train/GOT-10k_Train_000001/{00000001.jpg, ..., groundtruth.txt, absence.label, cover.label}
"""

import os
from pathlib import Path

import numpy as np

from datamodules.module import TrackingDataModule
from datamodules.sequences import Sequence


class DataError(ValueError):
    """A data set that is missing, incomplete or inconsistent."""


def read_got10k(root: str | Path, split: str, subset: str | Path | None = None) -> list[Sequence]:
    """Reads one split.

    Args:
        root: the folder with `train`, `val`, `test`.
        split: folder name.
        subset: file of indices into list.txt, one a line, as the published splits (vottrain, ...) come; None
            None for the whole split.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    folder = Path(root).expanduser().resolve() / split
    listing = folder / "list.txt"
    if not listing.is_file():
        raise DataError(
            f"no GOT-10k data at {folder}: {'list.txt is missing' if folder.is_dir() else 'the folder is missing'}. "
            f"Set paths.data to the folder that holds got10k/{split}/list.txt, e.g. paths.data=/data, "
            "or use datamodule=synthetic"
        )
    names = listing.read_text().split()
    if not names:
        raise DataError(f"{listing} is empty: it must name one sequence folder a line. Copy it again from the archive")
    if subset is not None:
        names = _choose(names, Path(subset), listing)
    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(names)} sequences in {listing} are missing, the first is {missing[0]}: "
            "the copy is incomplete. Finish it, or list only the sequences that are there"
        )
    return [_read_sequence(folder / name, labelled=split != "test") for name in names]


def _choose(names: list[str], subset: Path, listing: Path) -> list[str]:
    if not subset.is_file():
        raise DataError(
            f"no such split file: {subset}. It holds one index into {listing} a line; subset=null takes all"
        )
    chosen = [int(i) for i in subset.read_text().split()]
    if not chosen or not 0 <= min(chosen) <= max(chosen) < len(names):
        raise DataError(
            f"{subset} must hold indices from 0 to {len(names) - 1}, as {listing} has {len(names)} sequences"
        )
    return [names[i] for i in chosen]


def _read_sequence(folder: Path, labelled: bool) -> Sequence:
    frames = tuple(sorted(f for f in os.listdir(folder) if f.endswith((".jpg", ".png"))))
    boxes = _numbers(folder / "groundtruth.txt", columns=4)
    if labelled and len(frames) != len(boxes):
        raise DataError(
            f"{folder} has {len(frames)} frames and {len(boxes)} annotated boxes: the copy is incomplete, "
            "or groundtruth.txt belongs to another sequence"
        )
    if not frames:
        raise DataError(f"{folder} has no frames (.jpg or .png)")
    cover = _label(folder, "cover", len(boxes))
    absent = _label(folder, "absence", len(boxes))
    visible = (boxes[:, 2:] > 0).all(1)
    visible &= True if cover is None else cover > 0
    visible &= True if absent is None else absent == 0
    return Sequence(folder.name, folder, frames, boxes, visible, cover)


def _label(folder: Path, name: str, count: int) -> np.ndarray | None:
    """A label a frame, or None: people's own data in this layout seldom has them."""
    path = folder / f"{name}.label"
    if not path.is_file():
        return None
    values = _numbers(path, columns=1)[:, 0].astype(int)
    if len(values) != count:
        raise DataError(f"{path} has {len(values)} lines, groundtruth.txt has {count}")
    return values


def _numbers(path: Path, columns: int) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path} is missing: the copy of this sequence is incomplete")
    try:
        lines = [line.replace(",", " ").split() for line in path.read_text().split("\n") if line.strip()]
        rows = [[float(number) for number in line] for line in lines]
        numbers = np.array(rows, np.float64).reshape(-1, columns) if rows else np.empty((0, columns))
    except ValueError as error:
        raise DataError(f"{path} must hold {columns} number(s) a line: {error}") from error
    if len(numbers) != len(rows) or not np.isfinite(numbers).all():
        raise DataError(f"{path} must hold {columns} finite number(s) a line")
    return numbers


class Got10k(TrackingDataModule):
    """Trains on one split of GOT-10k and validates on another.

    Args:
        root: folder with `train`, `val`.
        train, val: arguments of `read_got10k`: split, and optionally subset.
        options: see `TrackingDataModule`.
    """

    def __init__(self, root: str, train: dict[str, str], val: dict[str, str], **options: object):
        super().__init__(**options)
        self.root, self.splits = root, {"train": train, "val": val}

    def read(self, split: str) -> list[Sequence]:
        """The sequences of "train" or "val"."""
        return read_got10k(self.root, **self.splits[split])
