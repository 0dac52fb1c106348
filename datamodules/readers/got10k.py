"""GOT-10k (Huang et al., TPAMI 2021).

root/train/list.txt, root/train/GOT-10k_Train_000001/{00000001.jpg, ..., groundtruth.txt, absence.label, cover.label}
"""

import re
from pathlib import Path

import numpy as np

from datamodules.readers.listing import check_counts, check_present, data_root, frames_in
from datamodules.sequences.annotations import DataError, read_labels, read_numbers
from datamodules.sequences.index import Entry, indexed
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

FILES = ("groundtruth.txt", "absence.label", "cover.label", "meta_info.ini")


def read_got10k(
    root: str | Path, split: str, subset: str | Path | None = None, cache: str | Path | None = None
) -> SequenceTable:
    """Reads one split; of `test`, only first frames are annotated.

    Args:
        root: the folder with `train`, `val`, `test`.
        split: folder name.
        subset: file of indices into list.txt, one a line, as the published splits (vottrain, ...) come; None for the
            whole split.
        cache: see `indexed`.

    Raises:
        DataError: names what is missing or does not fit, and what to do.
    """
    folder = data_root(root, "GOT-10k", f"{split}/list.txt") / split
    listing = folder / "list.txt"
    names = listing.read_text().split()
    if not names:
        raise DataError(f"{listing} is empty: it must name one sequence folder a line. Copy it again from the archive")
    if subset is not None:
        names = _choose(names, Path(subset), listing)
    check_present(names, [folder / name for name in names], str(listing))
    entries = [Entry(name, folder / name, tuple(folder / name / file for file in FILES)) for name in names]
    return indexed(folder, entries, _read, cache)


def _choose(names: list[str], subset: Path, listing: Path) -> list[str]:
    if not subset.is_file():
        raise DataError(
            f"no such split file: {subset}. It holds one index into {listing} a line; subset=null takes all"
        )
    chosen = read_numbers(subset, columns=1)[:, 0]
    if not chosen.size or not np.isin(chosen, np.arange(len(names))).all():
        raise DataError(
            f"{subset} must hold indices from 0 to {len(names) - 1}, as {listing} has {len(names)} sequences"
        )
    return [names[int(i)] for i in chosen]


def _read(entry: Entry) -> Sequence:
    annotation, absence, cover, meta = entry.files
    frames, boxes = frames_in(entry.folder), read_numbers(annotation, columns=4)
    if entry.folder.parent.name != "test" or len(boxes) != 1:
        check_counts(entry.folder, len(frames), len(boxes))
    # People's own data in this layout seldom has labels.
    absent = read_labels(absence, len(boxes)) > 0 if absence.is_file() else np.zeros(len(boxes), bool)
    covered = read_labels(cover, len(boxes), most=8) if cover.is_file() else None
    return Sequence(entry.name, entry.folder, frames, boxes, absent, covered, _resolution(meta))


def _resolution(meta: Path) -> tuple[int, int] | None:
    """As the protocol's boxes are clipped: what meta_info.ini says, if it is there."""
    found = re.search(r"resolution: *\((\d+), *(\d+)\)", meta.read_text()) if meta.is_file() else None
    return (int(found[1]), int(found[2])) if found else None
