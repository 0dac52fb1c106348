"""Cached stages: work that is named by exactly what it depends on, done once, and shared by all jobs that need it."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from evaluation.files import write_json

log = logging.getLogger(__name__)

DONE = "stage.json"


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
    """A piece of a study.

    Attributes:
        name: "parent", "sparsity", "child", "evaluation".
        depends: plain data; equal data means equal results. What an earlier stage made enters by that stage's key.
        make: fills a folder. After an interruption it gets the same folder again and may go on from what it left there.
    """

    name: str
    depends: Mapping[str, Any]
    make: Callable[[Path], None]

    @property
    def key(self) -> str:
        """Name of the stage's folder in the cache."""
        return f"{self.name}-{digest(self.depends)}"


@dataclass(frozen=True)
class Made:
    """A stage that is there.

    Attributes:
        folder: what it made; shared, so not to be changed.
        seconds: wall time it took when it was made.
        cached: whether that was before now.
    """

    folder: Path
    seconds: float
    cached: bool


def ensure(stage: Stage, cache: Path, force: bool = False) -> Made:
    """Makes the stage, or finds it. Of two jobs that need the same stage at once, one makes it and the other waits.

    Args:
        stage: what is needed.
        cache: folder of all stages.
        force: make it again even if it is there.
    """
    folder = cache / stage.key
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{stage.key}.lock"):
        done = folder / DONE
        if done.is_file() and not force:
            log.info("stage %s: found in %s", stage.name, folder)
            return Made(folder, json.loads(done.read_text())["seconds"], cached=True)
        log.info("stage %s: making %s", stage.name, folder)
        unfinished = cache / f"{stage.key}.unfinished"
        if force:
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(exist_ok=True)
        start = time.monotonic()
        stage.make(unfinished)
        seconds = round(time.monotonic() - start, 2)
        write_json(unfinished / DONE, {"stage": stage.name, "seconds": seconds, "depends": stage.depends})
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        return Made(folder, seconds, cached=False)
