"""The W&B run of a job that is not finished, so that the job goes on in the same run after an interruption."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from evaluation.files import write_json

NOTE = "unfinished_run.json"


@dataclass
class UnfinishedRun:
    """A run of W&B that a job has begun. A note in the job's folder keeps it until the job is finished.

    Attributes:
        folder: of the job.
        id: of the run.
        job: hash of the job's configuration; another job in the same folder gets a run of its own.
        rows: that the run has. W&B numbers the rows itself only if it reaches its server.
        is_continued: whether an earlier command has begun the run.
    """

    folder: Path
    id: str
    job: str
    rows: int = 0
    is_continued: bool = False

    @classmethod
    def of_job(cls, folder: Path, job: str, anew: bool = False) -> "UnfinishedRun":
        """Returns the run that the folder's note names, or a new one.

        Args:
            folder: of the job.
            job: hash of the job's configuration.
            anew: whether the job begins again.
        """
        try:
            note = json.loads((folder / NOTE).read_text())
            if note["job"] == job and not anew:
                return cls(folder, note["id"], job, note["rows"], is_continued=True)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there is no run to continue
        run = cls(folder, uuid4().hex[:12], job)
        run.save()
        return run

    def save(self) -> None:
        """Writes the note."""
        note = asdict(self)
        write_json(self.folder / NOTE, {key: note[key] for key in ("id", "job", "rows")})

    def count(self, rows: int) -> None:
        """Notes how many rows the run has."""
        if rows > self.rows:
            self.rows = rows
            self.save()

    def forget(self) -> None:
        """Deletes the note, since the job is finished."""
        (self.folder / NOTE).unlink(missing_ok=True)
