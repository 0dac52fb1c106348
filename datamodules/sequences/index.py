"""The cached index of a data set. Thousands of folders are listed and parsed once, and not at every start."""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import DataError, IncompleteSequenceError
from datamodules.frames.decoder import DECODER
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from datamodules.shared_files import hold_lock, replace_folder

log = logging.getLogger(__name__)

FORMAT = 2  # version of the cached files; files of another version are written again
KEY = "key.json"
NAME_BYTES = 200  # longest name of a sequence; file systems allow 255, and results need some of them
PROGRESS_FROM = 1000  # number of sequences from which reading shows a progress bar


@dataclass(frozen=True)
class SequenceFiles:
    """Paths of the files of one sequence. None of the files has been read yet.

    Attributes:
        name: unique in the data set.
        folder: folder of the frames, or a video file.
        annotations: annotation files. A file that does not exist is absent; the reader decides what that means.
        frame_numbers: numbers in the names of the first and last frame, if the sequence is a part of the folder.
    """

    name: str
    folder: Path
    annotations: tuple[Path, ...] = ()
    frame_numbers: tuple[int, int] | None = None


def read_sequences(
    root: Path,
    listed: list[SequenceFiles],
    read: Callable[[SequenceFiles], Sequence],
    cache: str | Path | None,
    only_complete: bool = False,
) -> SequenceTable:
    """Reads all listed sequences, or takes their table from the cache; see `cached_table`.

    Args:
        root: folder of the data set.
        listed: the sequences that the data set lists.
        read: reads one of them; raises DataError.
        cache: folder of the cache; None reads everything each time.
        only_complete: whether sequences for which `read` raises IncompleteSequenceError are left out.

    Raises:
        DataError: a sequence is broken, or a name occurs twice.
    """
    check_names(root, [s.name for s in listed])

    def read_all() -> SequenceTable:
        from rich.console import Console
        from rich.progress import track

        hidden = len(listed) < PROGRESS_FROM
        progress = track(listed, f"reading {root.name}", console=Console(stderr=True), disable=hidden)
        return SequenceTable.from_sequences(_read_each(progress, read, only_complete), root)

    return cached_table(root, listed, read_all, cache, only_complete)


def _read_each(
    listed: Iterable[SequenceFiles], read: Callable[[SequenceFiles], Sequence], only_complete: bool
) -> Iterator[Sequence]:
    for files in listed:
        try:
            yield read(files)
        except IncompleteSequenceError:
            if not only_complete:
                raise


def cached_table(
    root: Path,
    listed: list[SequenceFiles],
    make: Callable[[], SequenceTable],
    cache: str | Path | None,
    only_complete: bool = False,
) -> SequenceTable:
    """Loads the table of some sequences from the cache, or makes and stores it.

    A cached table is valid as long as no folder of frames and no annotation file has changed its times or size.

    Args:
        root: folder of the data set.
        listed: everything that the table depends on.
        make: makes the table; raises DataError.
        cache: see `read_sequences`.
        only_complete: whether `make` leaves out what is not complete; such a table serves no other reader.

    Raises:
        DataError: `make` failed.
    """
    if cache is None:
        return make()
    identity = [str(root), *(f"{s.name}\t{s.folder}\t{s.frame_numbers}" for s in listed)]
    identity += ["only complete"] if only_complete else []
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    folder = Path(cache) / "index" / f"{root.name}-{digest}"
    key = {"format": FORMAT, "decoder": DECODER, "state": _file_state(listed)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder, f"the index of {root}"):
        if (folder / KEY).is_file() and json.loads((folder / KEY).read_text()) == key:
            return SequenceTable.load(folder, root)
        log.info("indexing %s", root)
        table = make()
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        table.save(unfinished)
        (unfinished / KEY).write_text(json.dumps(key))
        replace_folder(unfinished, folder)
        return SequenceTable.load(folder, root)


def check_names(source: Path, names: list[str]) -> None:
    """Raises DataError unless each name is a plain file name of its own, as results are kept by name.

    Args:
        source: the folder or the list that has these names, for the message.
        names: of sequences.
    """
    bad = next((name for name in names if not _is_file_name(name)), None)
    if bad is not None:
        raise DataError(
            f"{source} lists a sequence {bad[:NAME_BYTES]!r}; results are kept by name, so a name must be a file name "
            f"of at most {NAME_BYTES} bytes in UTF-8, without slashes and control characters"
        )
    if len(set(names)) != len(names):
        repeated = next(n for n in names if names.count(n) > 1)
        raise DataError(f"{source} lists {repeated} more than once; results are kept by name, so list it once")


def _is_file_name(name: str) -> bool:
    is_plain = name not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", name)
    return is_plain and len(name.encode()) <= NAME_BYTES


def _file_state(listed: list[SequenceFiles]) -> str:
    """Returns a hash of the times and sizes of all folders and files.

    An editor or a copy may keep the time of the last change, but nothing keeps the time at which a file became so.
    """
    state = hashlib.sha256()
    for sequence in listed:
        for path in (sequence.folder, *sequence.annotations):
            try:
                stat = path.stat()
                state.update(f"{path}\t{stat.st_mtime_ns}\t{stat.st_ctime_ns}\t{stat.st_size}\n".encode())
            except OSError:  # missing or unreadable: the reader says so
                state.update(f"{path}\n".encode())
    return state.hexdigest()
