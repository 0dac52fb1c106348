"""Files with the boxes that a tracker finds in a stream. They are complete after every frame."""

import csv
from contextlib import ExitStack
from pathlib import Path

from evaluation.export.video.followed_objects import FollowedObjects, Found

COLUMNS = ("frame", "time", "x", "y", "w", "h", "score", "presence", "state")


class BoxFiles:
    """A CSV file for each object of a tracker: `<tracker>.csv` for one object, `<tracker>_1.csv` and so on for several.

    A row has the number of the frame from 1, its time in seconds, the box in pixels, the score, the presence of the
    object and its state ("tracked", "uncertain" or "lost"). The first row is the box that was given, without a score.

    Args:
        folder: of the files; those of an earlier run are replaced.
        name: of the tracker.
        count: number of objects.
    """

    def __init__(self, folder: Path, name: str, count: int):
        self._open = ExitStack()
        self._tables = []
        for path in box_paths(folder, name, count):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Each row is written at once, so that a run that is killed leaves whole rows.
            file = self._open.enter_context(path.open("w", buffering=1, newline="", encoding="utf-8"))
            self._tables.append(csv.writer(file, lineterminator="\n"))
            self._tables[-1].writerow(COLUMNS)

    def write(self, number: int, time: float, objects: FollowedObjects) -> None:
        """Writes a row for each object in a frame."""
        for table, found in zip(self._tables, objects.found, strict=True):
            table.writerow(_row(number, time, found))

    def close(self) -> None:
        """Closes the files."""
        self._open.close()

    def __enter__(self) -> "BoxFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def box_paths(folder: Path, name: str, count: int) -> list[Path]:
    """Returns the path of each object's file."""
    return [folder / f"{name}{f'_{i + 1}' if count > 1 else ''}.csv" for i in range(count)]


def _row(number: int, time: float, found: Found) -> list[str | int]:
    """Returns the cells of `COLUMNS`."""
    score = "" if found.score is None else f"{found.score:.4f}"
    return [
        number,
        f"{time:.3f}",
        *(f"{value:.3f}" for value in found.box),
        score,
        f"{found.presence:.4f}",
        found.state,
    ]
