"""Cached stages: work that is named by exactly what it depends on, done once, and shared by all jobs that need it."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from evaluation.files import write_json
from evaluation.processes.ranks import broadcast, is_rank_zero

log = logging.getLogger(__name__)

DONE = "stage.json"
SCRATCH = "scratch"  # what a stage leaves here is for its own continuation, and goes when it is done


def digest(value: Any) -> str:
    """A short hash of plain data, the same for equal data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def identity(source: str | Path) -> str:
    """A hash of a file's content, or what is no file itself."""
    if not Path(source).is_file():
        return str(source)
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Stage:
    """A piece of a study. Its key is known before anything is made.

    Attributes:
        name: "parent", "ranking", "sparsity", "child", "evaluation".
        depends: plain data; equal data means equal results. Of the stages in `after` it holds the keys.
        make: fills a folder. After an interruption it gets the same folder again and may go on from what it left there.
        after: the stages whose folders it reads; they are made before.
        progress: says in words how far an interrupted one got, from what it left in its folder; "" for not at all. None
            where that is not known.
    """

    name: str
    depends: Mapping[str, Any]
    make: Callable[[Path], None]
    after: tuple["Stage", ...] = ()
    progress: Callable[[Path], str] | None = None

    @property
    def key(self) -> str:
        """Name of the stage's folder in the cache."""
        return f"{self.name}-{digest({**self.depends, 'after': [stage.key for stage in self.after]})}"


@dataclass(frozen=True)
class Made:
    """A stage that is there.

    Attributes:
        folder: what it made; shared, so not to be changed.
        seconds: wall time of the run that finished it.
        cached: whether that was before now.
    """

    folder: Path
    seconds: float
    cached: bool


def ensure(stage: Stage, cache: Path, since: float = 0.0) -> Made:
    """Makes the stage, or finds it. Of two jobs that need the same stage at once, one makes it and the other waits.

    Of several processes of one job (see `evaluation.processes.ranks`) the first does so, and the others help.

    A process may be killed at any moment: what it had not finished is gone on with, and what it had is not made again.

    Args:
        stage: what is needed; the stages that it comes after are there.
        cache: folder of all stages.
        since: one that was finished before this moment (seconds since the epoch) is made again, from the beginning.
    """
    if not is_rank_zero():
        return _join_stage(stage, cache)
    folder, unfinished = cache / stage.key, _unfinished(stage, cache)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{stage.key}.lock"):
        if _is_done(folder, since):
            log.info("stage %s: found in %s", stage.name, folder)
            return broadcast(Made(folder, _seconds(folder), cached=True))
        log.info("stage %s: making %s", stage.name, folder)
        if since and not _is_done(unfinished, since):
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(exist_ok=True)
        if not _is_done(unfinished, since):
            broadcast(None)
            start = time.monotonic()
            stage.make(unfinished)
            about = {"stage": stage.name, "seconds": round(time.monotonic() - start, 2), "depends": stage.depends}
            write_json(unfinished / DONE, about | {"after": [before.key for before in stage.after]})
        shutil.rmtree(unfinished / SCRATCH, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        return broadcast(Made(folder, _seconds(folder), cached=False))


def _join_stage(stage: Stage, cache: Path) -> Made:
    """Takes part in what the first process makes, if it makes anything, and keeps nothing of it.

    What the stage goes on from lies in the first one's folder; what it ends with is the same in all processes.
    """
    made = broadcast(None)
    if made is None:
        with TemporaryDirectory() as folder:
            (Path(folder) / SCRATCH).symlink_to((_unfinished(stage, cache) / SCRATCH).absolute())
            stage.make(Path(folder))
        made = broadcast(None)
    return made


def state(stage: Stage, cache: Path, since: float = 0.0) -> str:
    """What `ensure` would find, in words: "cached", "partly done, <how far>" or "would run"."""
    unfinished = _unfinished(stage, cache)
    if _is_done(cache / stage.key, since) or _is_done(unfinished, since):
        return "cached"
    progress = stage.progress(unfinished) if stage.progress and unfinished.is_dir() and not since else ""
    return f"partly done, {progress}" if progress else "would run"


def _unfinished(stage: Stage, cache: Path) -> Path:
    return cache / f"{stage.key}.unfinished"


def _is_done(folder: Path, since: float) -> bool:
    done = folder / DONE
    return done.is_file() and done.stat().st_mtime >= since


def _seconds(folder: Path) -> float:
    return json.loads((folder / DONE).read_text())["seconds"]
