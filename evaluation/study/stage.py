"""Cached stages. The key of a stage is the hash of exactly what its result depends on; jobs share finished stages."""

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
SCRATCH = "scratch"  # folder that an interrupted stage continues from; it is deleted when the stage is done


def digest(value: Any) -> str:
    """Returns a short hash of plain data, equal for equal data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def hash_file(path: str | Path) -> str:
    """Returns the SHA-256 hash of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Stage:
    """A piece of work of a study. Its key is known before it is done.

    Attributes:
        name: "parent", "ranking", "sparsity", "child" or "evaluation".
        depends: plain data; equal data means equal results. The keys of the stages in `after` count as well.
        make: fills a folder. After an interruption it gets the same folder again and may continue from what is there.
        after: the stages whose folders this one reads; they are made before it.
        progress: returns in words how far an interrupted stage got, from its folder; "" if it has not started. None
            if a stage cannot tell.
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
class FinishedStage:
    """A stage whose folder is complete.

    Attributes:
        folder: the folder; other jobs read it too, so nobody changes it.
        seconds: wall time of the run that finished it.
        cached: whether it was finished before this job needed it.
    """

    folder: Path
    seconds: float
    cached: bool


def ensure(stage: Stage, cache: Path, since: float = 0.0) -> FinishedStage:
    """Makes a stage, or finds it in the cache.

    If two jobs need the same stage at once, one makes it and the other waits. If several processes work on one job (see
    `evaluation.processes.ranks`), rank 0 makes the stage and the others take part. A process may be killed at any
    moment: the next call continues an unfinished stage and does not repeat a finished one.

    Args:
        stage: the stage. The stages in `stage.after` must be finished.
        cache: folder of all stages.
        since: a stage that was finished before this moment (seconds since the epoch) is made again from the beginning.
    """
    if not is_rank_zero():
        return _join_stage(stage, cache)
    folder, unfinished = cache / stage.key, _unfinished(stage, cache)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{stage.key}.lock"):
        if _is_done(folder, since):
            log.info("stage %s: found in %s", stage.name, folder)
            return broadcast(FinishedStage(folder, _seconds(folder), cached=True))
        log.info("stage %s: making %s", stage.name, folder)
        if since and not _is_done(unfinished, since):
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(exist_ok=True)
        if not _is_done(unfinished, since):
            broadcast(None)
            start = time.monotonic()
            stage.make(unfinished)
            record = {"stage": stage.name, "seconds": round(time.monotonic() - start, 2), "depends": stage.depends}
            write_json(unfinished / DONE, record | {"after": [before.key for before in stage.after]})
        shutil.rmtree(unfinished / SCRATCH, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        return broadcast(FinishedStage(folder, _seconds(folder), cached=False))


def _join_stage(stage: Stage, cache: Path) -> FinishedStage:
    """Takes part in a stage that rank 0 makes. It works in a temporary folder, which is deleted.

    An interrupted stage continues from the scratch folder of rank 0. Its result is the same in all processes.
    """
    finished = broadcast(None)
    if finished is None:
        with TemporaryDirectory() as folder:
            (Path(folder) / SCRATCH).symlink_to((_unfinished(stage, cache) / SCRATCH).absolute())
            stage.make(Path(folder))
        finished = broadcast(None)
    return finished


def state(stage: Stage, cache: Path, since: float = 0.0) -> str:
    """Returns the state of a stage in words: "cached", "partly done, <progress>" or "would run"."""
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
