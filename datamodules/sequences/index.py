"""The first look at a data set, remembered: thousands of folders are listed and parsed once, not at every start."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import track

from datamodules.sequences.annotations import DataError
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

log = logging.getLogger(__name__)

FORMAT = 1  # of the files; another one is read anew
KEY = "key.json"


@dataclass(frozen=True)
class Entry:
    """A video that a data set lists, before anything of it is read.

    Attributes:
        name: unique in the data set.
        folder: of its frames, or a video file.
        files: of its annotation. Those that do not exist count as absent, whatever that means to the reader.
        numbers: in the file names of its first and last frame, where those in between are not all of the folder.
    """

    name: str
    folder: Path
    files: tuple[Path, ...] = ()
    numbers: tuple[int, int] | None = None


def indexed(
    root: Path, entries: list[Entry], read: Callable[[Entry], Sequence], cache: str | Path | None
) -> SequenceTable:
    """Reads all entries, or finds what was read before; see `remembered`.

    Args:
        root: folder of the data set.
        entries: what it lists.
        read: one of them; raises DataError.
        cache: folder for what is remembered; None remembers nothing.

    Raises:
        DataError: of the first entry that is broken, or a name occurs twice.
    """
    _check_names(root, entries)
    progress = track(entries, f"reading {root.name}", console=Console(stderr=True), disable=len(entries) < 1000)
    return remembered(root, entries, lambda: SequenceTable.of(map(read, progress), root), cache)


def remembered(
    root: Path, entries: list[Entry], make: Callable[[], SequenceTable], cache: str | Path | None
) -> SequenceTable:
    """Makes the table of some entries, or finds what was made before.

    What was made counts as long as no folder of frames and no annotation file has changed its time or size.

    Args:
        root: folder of the data set.
        entries: all that the table depends on.
        make: the table; raises DataError.
        cache: see `indexed`.

    Raises:
        DataError: see `make`.
    """
    if cache is None:
        return make()
    about = [str(root), *(f"{e.name}\t{e.folder}\t{e.numbers}" for e in entries)]
    place = hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
    folder = Path(cache) / "index" / f"{root.name}-{place}"
    key = {"format": FORMAT, "state": _state(entries)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / KEY).is_file() and json.loads((folder / KEY).read_text()) == key:
            return SequenceTable.load(folder, root)
        log.info("first look at %s", root)
        table = make()
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        table.save(unfinished)
        (unfinished / KEY).write_text(json.dumps(key))
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        return SequenceTable.load(folder, root)


def _check_names(root: Path, entries: list[Entry]) -> None:
    names = [e.name for e in entries]
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"{root} lists {twice} more than once; results are kept by name, so list it once")


def _state(entries: list[Entry]) -> str:
    """A hash of when folders and files changed last, and of how large they are."""
    state = hashlib.sha256()
    for entry in entries:
        for path in (entry.folder, *entry.files):
            try:
                about = path.stat()
                state.update(f"{path}\t{about.st_mtime_ns}\t{about.st_size}\n".encode())
            except FileNotFoundError:
                state.update(f"{path}\n".encode())
    return state.hexdigest()
