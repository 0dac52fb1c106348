"""Cached stages. The key of a stage is the hash of exactly what its result depends on; jobs share finished stages."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datamodules.shared_files import hold_lock, replace_folder
from evaluation.processes.command_state import command_state
from evaluation.processes.ranks import broadcast, is_rank_zero
from evaluation.study.provenance import provenance
from evaluation.study.stage_record import SCRATCH, digest, find_damage, read_record, write_record

log = logging.getLogger(__name__)


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

    @property
    def title(self) -> str:
        """Name in messages; a job has two evaluations, e.g. "evaluation of child"."""
        return f"evaluation of {self.after[0].name}" if self.name == "evaluation" and self.after else self.name


@dataclass(frozen=True)
class FinishedStage:
    """A stage whose folder is complete.

    Attributes:
        folder: the folder; other jobs read it too, so nobody changes it.
        seconds: wall time of the run that finished it.
        cached: whether it was finished before this job needed it.
        provenance: the code and the machine that made it, see `evaluation.study.provenance`.
    """

    folder: Path
    seconds: float
    cached: bool
    provenance: dict[str, Any]


def ensure(stage: Stage, cache: Path, command: str = "") -> FinishedStage:
    """Makes a stage, or finds it in the cache.

    If two jobs need the same stage at once, one makes it and the other waits. If several processes work on one job (see
    `evaluation.processes.ranks`), rank 0 makes the stage and the others take part. A process may be killed at any
    moment: the next call continues an unfinished stage and does not repeat a finished one. A stage whose files are not
    as they were written is made again.

    Args:
        stage: the stage. The stages in `stage.after` must be finished.
        cache: folder of all stages.
        command: name of a command that reuses no stage but its own; a stage that another command has made is made
            again from the beginning. "" reuses every stage.
    """
    if not is_rank_zero():
        return _join_stage(stage)
    folder, unfinished = cache / stage.key, _unfinished(stage, cache)
    cache.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder, f"stage {stage.title}"):
        if (record := _usable_record(folder, command)) is not None:
            log.info("stage %s: found in %s", stage.title, folder)
            return broadcast(_finished(folder, record, cached=True))
        log.info("stage %s: making %s", stage.title, folder)
        if (record := _usable_record(unfinished, command)) is None:
            if command or read_record(unfinished) is not None:
                shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(exist_ok=True)
            broadcast(unfinished.absolute())
            record = _make(stage, unfinished, command)
        shutil.rmtree(unfinished / SCRATCH, ignore_errors=True)
        replace_folder(unfinished, folder)
        return broadcast(_finished(folder, record, cached=False))


def state(stage: Stage, cache: Path, command: str = "") -> str:
    """Returns the state of a stage in words: "cached", "partly done, <progress>" or "would run".

    The content of files is not read; only `ensure` notices a file that has another content of the same size.
    """
    unfinished = _unfinished(stage, cache)
    if any(_usable_record(folder, command, hashes=False) for folder in (cache / stage.key, unfinished)):
        return "cached"
    progress = stage.progress(unfinished) if stage.progress and unfinished.is_dir() and not command else ""
    return f"partly done, {progress}" if progress else "would run"


def position(stages: Iterable[Stage], cache: Path, command: str = "") -> str:
    """Returns in words which of the stages of a job a stopped command was in, and what of it is saved.

    Args:
        stages: of the job, in their order.
        cache, command: see `ensure`.
    """
    for stage in stages:
        unfinished = _unfinished(stage, cache)
        if not any(_usable_record(folder, command, hashes=False) for folder in (cache / stage.key, unfinished)):
            saved = stage.progress(unfinished) if stage.progress and unfinished.is_dir() else ""
            place = f"{stage.title} {command_state.step}".rstrip()
            return f"stopped in stage {place}; saved: {saved.removeprefix('at ') or 'nothing of it yet'}"
    return "stopped after the last stage"


def _make(stage: Stage, folder: Path, command: str) -> dict[str, Any]:
    """Makes a stage in its unfinished folder, and returns its record."""
    start = time.monotonic()
    stage.make(folder)
    seconds = round(time.monotonic() - start, 2)
    record: dict[str, Any] = {"stage": stage.name, "seconds": seconds, "depends": stage.depends}
    record |= {"after": [before.key for before in stage.after], "command": command, "provenance": provenance()}
    write_record(folder, record)
    return record


def _join_stage(stage: Stage) -> FinishedStage:
    """Takes part in a stage that rank 0 makes. It works in a temporary folder, which is deleted.

    An interrupted stage continues from the scratch folder of rank 0. Its result is the same in all processes.
    """
    found: Any = broadcast(None)
    if isinstance(found, FinishedStage):
        return found
    with TemporaryDirectory() as folder:
        (Path(folder) / SCRATCH).symlink_to(found / SCRATCH)
        stage.make(Path(folder))
    finished: Any = broadcast(None)
    return finished


def _usable_record(folder: Path, command: str, hashes: bool = True) -> dict[str, Any] | None:
    """Returns the record of a folder that holds a finished stage which the command may use; None for any other."""
    record = read_record(folder)
    if record is None or (command and record["command"] != command):
        return None
    if damage := find_damage(folder, record, hashes):
        log.warning("%s is damaged: %s. The stage is made again", folder, damage)
        return None
    return record


def _finished(folder: Path, record: dict[str, Any], cached: bool) -> FinishedStage:
    return FinishedStage(folder, record["seconds"], cached, record["provenance"])


def _unfinished(stage: Stage, cache: Path) -> Path:
    return cache / f"{stage.key}.unfinished"
