"""Reads attribute files: one file for each sequence, with a 0 or 1 for each attribute of the data set."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from datamodules.errors import DataError
from datamodules.readers.completeness import describe_missing
from datamodules.sequences.annotations import SHOWN, read_bytes
from datamodules.sequences.attributes import Attributes


def read_attribute_files(
    names: Iterable[str],
    columns: Sequence[str],
    places: Sequence[Path],
    source: str,
    aliases: Mapping[str, str] | None = None,
) -> Attributes:
    """Reads the files `<sequence>.txt` in the first of some folders that exists.

    Copies differ in the spelling of names: upper and lower case do not count, and `-`, `_` and `.` are alike.

    Args:
        names: of the sequences.
        columns: names of the attributes in the order of the numbers in a file.
        places: folders.
        source: where the files come from, for the note about missing files.
        aliases: other names of sequences in the names of the files.

    Returns:
        The attributes. The note says which sequences have no file.

    Raises:
        DataError: a file holds something else.
    """
    names = list(names)
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        return Attributes({}, f"attributes are not there: put {source} into {places[0]}")
    files = {_spelling(path.stem): path for path in sorted(folder.glob("*.txt"))}
    found, missing, aliases = defaultdict(set), [], aliases or {}
    for name in names:
        path = files.get(_spelling(name)) or files.get(_spelling(aliases.get(name, name)))
        if path is None:
            missing.append(name)
            continue
        for attribute, flag in zip(columns, _read_flags(path, len(columns)), strict=True):
            if flag:
                found[attribute].add(name)
    groups = {attribute: frozenset(found[attribute]) for attribute in columns if found[attribute]}
    note = f"attribute files in {folder}: {describe_missing(missing)}; {source} has them" if missing else ""
    return Attributes(groups, note)


def _read_flags(path: Path, count: int) -> list[bool]:
    words = read_bytes(path).replace(b",", b" ").split()
    try:
        flags = [float(word) for word in words]
    except ValueError:
        flags = []
    if len(flags) != count or not set(flags) <= {0.0, 1.0}:
        shown = b" ".join(words)[:SHOWN].decode(errors="replace")
        raise DataError(f"{path} must hold {count} numbers that are 0 or 1, one for each attribute; it holds {shown!r}")
    return [flag > 0 for flag in flags]


def _spelling(name: str) -> str:
    return re.sub("[._]", "-", name.lower())
