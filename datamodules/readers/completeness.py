"""Incomplete copies of a data set: says what is there, what is missing and what to do, or reads what is there."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from datamodules.errors import DataError, DataSettingError, IncompleteSequenceError, NoDataError
from datamodules.sequences.index import SequenceFiles, read_sequences
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

ARCHIVES = (".tar.gz", ".zip", ".tar", ".tgz", ".rar", ".7z")
SHOWN = 3  # names in a message
MAX_FOLDERS = 100  # folders of a folder that are searched for a data set
USE = "Finish the copy, or use only what is there"


def find_root(root: str | Path, data_set: str, needs: str) -> Path:
    """Returns the absolute path of a data set's folder.

    Args:
        root: folder as configured.
        data_set: name for the message.
        needs: path below the root that must exist.

    Raises:
        DataError: the path does not exist.
    """
    root = Path(root).expanduser().absolute()
    if not (root / needs).exists():
        raise not_found(data_set, root, needs, lambda folder: (folder / needs).exists())
    return root


def not_found(data_set: str, root: Path, needs: str, holds: Callable[[Path], bool]) -> DataError:
    """Returns the error of a data set of which nothing is at its root. A folder near the root may have it.

    Args:
        data_set, needs: see `find_root`.
        root: absolute path.
        holds: returns whether a folder would do as the root.
    """
    lost = f"no data of {data_set} at {root}: {needs if root.is_dir() else 'the folder'} is missing"
    found = next((folder for folder in _folders_near(root) if holds(folder)), None)
    if found is not None:
        return DataSettingError(f"{lost}, but {found} has such data", "Use that folder", f"root={found}")
    return NoDataError(
        f"{lost}{describe_archives(root, [root / needs])}. Set paths.data to the folder that holds "
        f"{root.name}/{needs}, e.g. paths.data=/data, or use datamodule=synthetic and benchmark=synthetic",
        data_set,
        root,
    )


def read_listed(
    data_set: str,
    root: Path,
    listed: list[SequenceFiles],
    read: Callable[[SequenceFiles], Sequence],
    cache: str | Path | None,
    only_complete: bool,
    whole: int | None = None,
) -> SequenceTable:
    """Reads all listed sequences, or only those with all their frames and their annotation.

    Args:
        data_set: name of the data set and its part, for messages.
        root, listed, read, cache: see `read_sequences`.
        only_complete: whether sequences that are not complete are left out. If not, they are an error.
        whole: number of sequences of the official part; by default `len(listed)`.

    Raises:
        DataError: sequences are missing, incomplete or damaged; the message says what to do.
    """
    present = [s for s in listed if s.folder.is_dir()]
    if not present:
        below = [s.folder.relative_to(root) for s in listed]
        needs = str(below[0])
        raise not_found(data_set, root, needs, lambda folder: any((folder / path).is_dir() for path in below))
    if len(present) < len(listed) and not only_complete:
        raise _incomplete(data_set, root, listed, {s.name for s in present})
    try:
        table = read_sequences(root, present, read, cache, only_complete)
    except IncompleteSequenceError as error:
        raise DataSettingError(str(error), USE, "only_complete=true") from error
    if not len(table):
        raise DataError(
            f"no sequence of {data_set} at {root} is complete, e.g. {present[0].folder} lacks frames, or "
            f"{present[0].annotations[0]} does not fit them: copy the data again"
        )
    return replace(table, whole=whole or len(listed))


def describe_missing(names: Collection[str]) -> str:
    """Returns the number of missing things and the first names, for a message."""
    few = ", ".join(islice(names, SHOWN))
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} missing{', e.g. ' if len(names) > SHOWN else ': '}{few}"


def _incomplete(data_set: str, root: Path, listed: list[SequenceFiles], present: set[str]) -> DataSettingError:
    missing = [s for s in listed if s.name not in present]
    archives = describe_archives(root, [s.folder for s in missing], {s.name for s in missing})
    return DataSettingError(
        f"{data_set} at {root} is incomplete: {len(present)} of its {len(listed)} sequences are there, "
        f"{describe_missing([s.name for s in missing])}{archives}",
        USE,
        "only_complete=true",
    )


def describe_archives(root: Path, missing: Iterable[Path] = (), names: Collection[str] = ()) -> str:
    """Returns a remark on archives near missing folders that nobody has unpacked; "" without such archives."""
    places = {root, *(p for folder in missing for p in folder.parents if p.is_relative_to(root))}
    found = sorted(chain.from_iterable(_packed(place, names) for place in places))
    if not found:
        return ""
    many = f"{len(found)} archives are there but not unpacked, e.g." if len(found) > 1 else "not unpacked is"
    return f"; {many} {found[0]}"


def _packed(place: Path, names: Collection[str]) -> Iterator[Path]:
    """Yields the archives in a folder that have no folder of their name, and those of `names` in its folder `zips`.

    The chunks of TrackingNet come with the folder `zips`, which may stay when the archives are unpacked.
    """
    for path in (*_entries(place), *_entries(place / "zips")):
        name = next((path.name.removesuffix(end) for end in ARCHIVES if path.name.endswith(end)), None)
        if name is not None and (name in names or (path.parent == place and not path.with_name(name).is_dir())):
            yield path


def _folders_near(root: Path) -> Iterator[Path]:
    """Yields the folder above, folders in the root, folders beside the root, and folders in those in the root."""
    inside = _folders(root)
    yield from (root.parent, *inside, *(f for f in _folders(root.parent) if f != root))
    for folder in inside:
        yield from _folders(folder)


def _folders(place: Path) -> list[Path]:
    return list(islice((path for path in _entries(place) if path.is_dir()), MAX_FOLDERS))


def _entries(place: Path) -> list[Path]:
    """Returns all paths in a folder, sorted; [] if it cannot be read."""
    try:
        return [place / name for name in sorted(os.listdir(place)) if not name.startswith(".")]
    except OSError:
        return []
