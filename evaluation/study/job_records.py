"""The jobs that use a cache. Each job notes its folder and the stages that it needs; other stages may be deleted."""

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evaluation.files import write_json
from evaluation.study.stage_record import digest


@dataclass(frozen=True)
class JobRecord:
    """The note of a job.

    Attributes:
        file: the note itself.
        folder: folder of the job.
        host: the machine that the job ran on.
        stages: keys of its stages.
    """

    file: Path
    folder: Path
    host: str
    stages: frozenset[str]

    @property
    def is_gone(self) -> bool:
        """Whether the job's folder was deleted. A folder of another machine may just not be visible here."""
        return self.host == socket.gethostname() and not self.folder.is_dir()


def record_job(stages: Path, folder: Path, keys: Iterable[str]) -> None:
    """Notes that a job needs some stages, in the place of an earlier note of the same job.

    Args:
        stages: the folder of all stages; notes lie beside it.
        folder: folder of the job.
        keys: keys of its stages. They must be noted before the job looks for the first of them.
    """
    host, path = socket.gethostname(), str(folder.absolute())
    write_json(_notes(stages) / f"{digest([host, path])}.json", {"folder": path, "host": host, "stages": sorted(keys)})


def read_jobs(stages: Path) -> list[JobRecord]:
    """Returns the notes of all jobs, in the order of their folders. What is no note is left out."""
    jobs = []
    for file in _notes(stages).glob("*.json"):
        try:
            note = json.loads(file.read_text())
            jobs.append(JobRecord(file, Path(note["folder"]), note["host"], frozenset(note["stages"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(jobs, key=lambda job: (job.host, job.folder))


def _notes(stages: Path) -> Path:
    return stages.with_name("jobs")
