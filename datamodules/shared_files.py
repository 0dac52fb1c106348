"""Files that several processes share: locks that say who holds them, and folders that are replaced as a whole."""

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds that a process waits before its log says for whom
REMINDER = 600.0  # seconds between two such messages


@contextmanager
def hold_lock(path: Path, what: str) -> Iterator[None]:
    """Holds the lock `<path>.lock`. Of several processes one goes on, and the others wait and say for whom.

    The holder describes itself in `<path>.holder`. The operating system frees the lock when the holder and its children
    end, also when they are killed.

    Args:
        path: of the file or folder that the lock protects; its parent folder exists.
        what: what the holder works on, for the message.
    """
    lock, note = FileLock(f"{path}.lock"), Path(f"{path}.holder")
    _wait_for(lock, note, what)
    try:
        began = datetime.now().isoformat(" ", "seconds")
        note.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "began": began}))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def describe_holder(note: Path) -> str:
    """Returns in words who holds the lock whose holder has written `note`."""
    try:
        holder = json.loads(note.read_text())
        return f"process {holder['pid']} on {holder['host']}, since {holder['began']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def replace_folder(new: Path, folder: Path) -> None:
    """Renames `new` to `folder`. A folder of that name is moved aside and deleted.

    Another job may have files of the old folder mapped. On NFS such a folder cannot be emptied, so nothing is renamed
    onto it; what cannot be deleted stays under its other name.
    """
    aside = _move_aside(folder)
    new.rename(folder)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Deletes a folder, if it exists. No process ever sees a part of it under its name."""
    aside = _move_aside(folder)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Returns whether a path is a folder that was moved aside and could not be deleted."""
    return path.name.startswith(".") and path.name.endswith(".old")


def _move_aside(folder: Path) -> Path | None:
    aside = folder.with_name(f".{folder.name}.{uuid4().hex}.old")
    try:
        return folder.rename(aside)
    except FileNotFoundError:
        return None


def _wait_for(lock: FileLock, note: Path, what: str) -> None:
    patience = PATIENCE
    while True:
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            log.warning(
                "%s: waiting for %s. On that machine `fuser %s` lists the processes that hold the lock; end them if "
                "they should not run any more",
                what,
                describe_holder(note),
                lock.lock_file,
            )
            patience = REMINDER
        else:
            return
