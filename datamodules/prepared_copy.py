"""The prepared copy of a data set, whose JPEG frames have restart markers. `datamodules.prepare` is its command."""

import json
import multiprocessing
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from joblib import Parallel, delayed
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.errors import DataError
from datamodules.exit_with_parent import exit_with_parent
from datamodules.frames.restart_markers import PREPARED, KeptFileError, add_restart_markers, find_jpegtran
from datamodules.shared_files import hold_lock

RECORD = ".prepared.json"  # in the destination: its source, and the names of the files that were kept
JPEG_SUFFIXES = (".jpg", ".jpeg")
CHECKS = ("all", "sample")
SAMPLE = 50  # of so many files, one is decoded
FILES = 64  # of a folder, that a process prepares at once
GROWTH = 1.1  # by which rewritten files may grow; .01 to .04 was measured
SAME_TIME = 1000  # ns: not all file systems keep a time to the nanosecond
REWRITTEN, KEPT, OTHER, LEFT_OUT = "rewritten", "JPEG, kept as it is", "other, linked or copied", "left out"


@dataclass
class Outcome:
    """What became of some files.

    Attributes:
        files, before, after: number, and bytes before and after, by what became of them.
        reasons: names of files that were kept or left out, by reason.
    """

    files: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def count(self, what: str, before: int, after: int, path: Path, reason: str) -> None:
        """Adds a file of `before` bytes, which has `after` bytes now."""
        self.files[what] += 1
        self.before[what] += before
        self.after[what] += after
        if reason:
            self.reasons.setdefault(reason, []).append(str(path))

    def add(self, other: "Outcome") -> None:
        """Adds other files."""
        for mine, theirs in ((self.files, other.files), (self.before, other.before), (self.after, other.after)):
            mine.update(theirs)
        for reason, names in other.reasons.items():
            self.reasons.setdefault(reason, []).extend(names)


def prepare(source: Path, destination: Path, check: str = "all", workers: int = 1) -> Outcome:
    """Writes or completes the prepared copy of a data set; `datamodules.prepare` says what it holds.

    Args:
        source: folder of the data set.
        destination: folder that is written.
        check: files whose pixels are compared, "all" or "sample".
        workers: processes.

    Raises:
        DataError: a folder cannot be used, jpegtran is missing, the number of workers is not positive, or there is not
            enough room on the disk.
        OSError: a file cannot be read or written.
    """
    if workers < 1:
        raise DataError(f"--workers={workers} must be at least 1")
    source, destination = source.expanduser().resolve(), destination.expanduser().resolve()
    _check_folders(source, destination)
    jpegtran, outcome = find_jpegtran(), Outcome()
    destination.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(destination, f"preparing {destination}"):
        _claim(source, destination)
        total = _count_files(source, destination)
        what = TextColumn("{task.description}", markup=False)
        columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"preparing {source.name}", total=total)
            # loky, and not fork, which may hang in a process that has threads. A killed command leaves no process.
            pool = Parallel(workers, backend="loky", return_as="generator_unordered", pre_dispatch="2*n_jobs")
            jobs = (delayed(_prepare_files)(jpegtran, source, destination, *part, check) for part in _parts(source))
            for done in pool(jobs):
                outcome.add(done)
                progress.advance(task, done.files.total())
        record = {"source": str(source), "kept": {k: sorted(names) for k, names in outcome.reasons.items()}}
        _write(destination / RECORD, json.dumps(record, indent=1).encode())
    return outcome


# Before anything is written


def _check_folders(source: Path, destination: Path) -> None:
    example = f"name a folder beside it, e.g. {source}_prepared"
    if not source.is_dir():
        raise DataError(f"SOURCE {source} is no folder; name the folder of a data set, e.g. /data/got10k")
    if destination == source:
        raise DataError(f"DESTINATION {destination} is SOURCE; {example}")
    if source in destination.parents:
        raise DataError(f"DESTINATION {destination} lies inside of SOURCE {source}; {example}")
    if destination in source.parents:
        raise DataError(f"SOURCE {source} lies inside of DESTINATION {destination}; {example}")
    if destination.exists() and not destination.is_dir():
        raise DataError(f"DESTINATION {destination} is a file; {example}")


def _claim(source: Path, destination: Path) -> None:
    """Makes the destination, or checks that an earlier call began it from the same source."""
    destination.mkdir(exist_ok=True)
    record = destination / RECORD
    if record.is_file():
        other = _source_in(record, source)
        if other != str(source):
            raise DataError(f"DESTINATION {destination} was prepared from {other}; name a new folder for {source}")
    elif any(destination.iterdir()):
        raise DataError(f"DESTINATION {destination} holds other files, which would be mixed up; name a new folder")
    else:
        _write(record, json.dumps({"source": str(source), "kept": {}}).encode())


def _source_in(record: Path, source: Path) -> str:
    """Returns the source that a record names.

    Raises:
        DataError: the record is damaged, e.g. emptied by a crash of the machine.
    """
    try:
        return json.loads(record.read_text())["source"]
    except (ValueError, TypeError, KeyError):
        line = json.dumps({"source": str(source), "kept": {}})
        raise DataError(
            f"{record} is damaged, so the source of its folder is unknown. Name a new folder; or, if the folder was "
            f"prepared from {source}, go on after: echo '{line}' > {record}"
        ) from None


def _count_files(source: Path, destination: Path) -> int:
    """Returns the number of files of the source.

    Raises:
        DataError: there is no room for those that the destination lacks.
    """
    links = source.stat().st_dev == destination.stat().st_dev
    count = missing = 0
    for folder, names in _folders(source):
        count += len(names)
        there = set(os.listdir(destination / folder)) if (destination / folder).is_dir() else set()
        written = [name for name in names if name not in there and (_is_jpeg(name) or not links)]
        missing += sum(path.stat().st_size for name in written if (path := source / folder / name).exists())
    needed, free = GROWTH * missing, shutil.disk_usage(destination).free
    if needed > free:
        raise DataError(
            f"{destination} needs up to {decimal(int(needed))}, and its disk has {decimal(free)} free; make room, or "
            "name a folder on another disk"
        )
    return count


# Files


def _folders(source: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yields each folder of the source, relative to it, and the names of its files. Links to folders are followed."""
    for path, folders, names in os.walk(source, followlinks=True, onerror=_raise):
        real = Path(path).resolve()
        folders[:] = sorted(name for name in folders if (real / name).resolve() not in (real, *real.parents))
        folder = Path(path).relative_to(source)
        yield folder, sorted(name for name in names if folder / name != Path(RECORD))


def _raise(error: OSError) -> None:
    raise error


def _parts(source: Path) -> Iterator[tuple[Path, list[str]]]:
    for folder, names in _folders(source):
        for first in range(0, len(names), FILES):
            yield folder, names[first : first + FILES]


def _prepare_files(
    jpegtran: str, source: Path, destination: Path, folder: Path, names: list[str], check: str
) -> Outcome:
    """Prepares some files of a folder."""
    if multiprocessing.parent_process() is not None:
        exit_with_parent()
    outcome = Outcome()
    (destination / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / name
        decodes = check == "all" or zlib.crc32(os.fsencode(path)) % SAMPLE == 0
        old, new = source / path, destination / path
        try:
            stat = old.stat()
            data = old.read_bytes() if _is_jpeg(name) and not _is_rewritten(new, stat) else None
        except OSError as error:
            outcome.count(LEFT_OUT, 0, 0, path, error.strerror or "cannot be read")
            continue
        what, reason = OTHER, ""
        if data is not None:
            try:
                _write(new, add_restart_markers(data, jpegtran, decodes), (stat.st_atime_ns, stat.st_mtime_ns))
                what = REWRITTEN
            except KeptFileError as error:
                what, reason = (OTHER, "") if error.reason == PREPARED else (KEPT, error.reason)
        elif _is_jpeg(name):
            what = REWRITTEN  # by an earlier call
        if what != REWRITTEN:
            _link_or_copy(old, new)
        outcome.count(what, stat.st_size, new.stat().st_size, path, reason)
    return outcome


def _is_jpeg(name: str) -> bool:
    return name.lower().endswith(JPEG_SUFFIXES)


def _is_rewritten(new: Path, old: os.stat_result) -> bool:
    """Returns whether an earlier call has rewritten a file, which has not changed since. A link has the same size."""
    try:
        stat = new.stat()
    except FileNotFoundError:
        return False
    return stat.st_size not in (0, old.st_size) and abs(stat.st_mtime_ns - old.st_mtime_ns) < SAME_TIME


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yields the path `.NAME.unfinished`, which becomes the file when the block ends, and is deleted after an error.

    A killed command leaves it, and the next command replaces it. Files with random names would pile up in the data set.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(path: Path, data: bytes, times: tuple[int, int] | None = None) -> None:
    """Writes a file atomically.

    Args:
        path: the file.
        data: its content.
        times: of the last access and of the last change, ns.
    """
    with _replacing(path) as unfinished:
        unfinished.write_bytes(data)
        if times is not None:
            os.utime(unfinished, ns=times)


def _link_or_copy(old: Path, new: Path) -> None:
    """Puts a file at a second place, atomically, with its time: as a hard link, or as a copy."""
    real = old.resolve()
    if new.exists() and new.samefile(real):
        return
    with _replacing(new) as unfinished:
        try:
            os.link(real, unfinished)
        except OSError:  # another file system, or one without hard links, or too many links
            shutil.copy2(real, unfinished)
