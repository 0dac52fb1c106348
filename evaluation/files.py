"""Atomic writes: a reader sees the whole file or no file."""

import csv
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path. It becomes `path` when the block ends, and is deleted after an error.

    Raises:
        OSError: the file cannot be written, e.g. because the disk is full; the error names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Process ids repeat in other containers and on other machines. File names may have 255 bytes.
    unfinished = path.with_name(f".{path.name[:150]}.{uuid4().hex}")
    try:
        yield unfinished
        unfinished.replace(path)
    except Exception as error:
        # PyTorch replaces an error of the file that it writes to, or a signal, by an error of its own.
        disk = error if isinstance(error, OSError) else error.__context__
        if isinstance(disk, SystemExit | KeyboardInterrupt):
            raise disk from None
        if isinstance(disk, OSError) and disk.errno is not None and disk.filename in (None, str(unfinished)):
            raise OSError(disk.errno, disk.strerror, str(path)) from error
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, atomically."""
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a table as CSV, atomically. A cell that a row lacks is empty."""
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def write_json(path: Path, value: Any) -> None:
    """Writes plain data as JSON, atomically. NaN and infinity, which JSON does not have, become null."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(without_nan(value), indent=2, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """Returns plain data with None in the place of each number that is NaN or infinite."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def link_folder(source: Path, target: Path) -> None:
    """Puts all files of a folder at a second place; see `link_or_copy`."""
    shutil.copytree(source, target, copy_function=link_or_copy, dirs_exist_ok=True)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Puts a file at a second place, atomically: as a hard link, or as a copy where the file system has no links.

    A link takes no room, but both names are one file. So nobody may change it in place; to replace it is safe.
    """
    with atomic_write(Path(target)) as unfinished:
        try:
            os.link(source, unfinished)
        except OSError:  # another file system, or one without hard links, or too many links
            shutil.copyfile(source, unfinished)
