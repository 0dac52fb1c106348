"""The rows of a job's `sequences.csv`: what each sequence adds to the scores of a tracker and of its parent."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.report.study_results import Result
from evaluation.tracking.sequence_results import PARENT, SEQUENCES


@dataclass(frozen=True)
class SequenceRows:
    """The sequences of one benchmark.

    Attributes:
        names: of the sequences.
        columns: "frames", "fps", "lost_at", "weight" (of the sequence in the benchmark's score), and every metric of
            the tracker; with the prefix "parent " those of its parent. (s,) each, NaN where a cell is empty.
    """

    names: tuple[str, ...]
    columns: Mapping[str, np.ndarray]

    def parent(self) -> "SequenceRows":
        """Returns the same rows for the parent: its metrics have no prefix."""
        shared = {name: self.columns[name] for name in ("frames", "weight") if name in self.columns}
        own = {k.removeprefix(PARENT): values for k, values in self.columns.items() if k.startswith(PARENT)}
        return SequenceRows(self.names, shared | own)


def with_sequences(results: Sequence[Result], folder: Path) -> list[Result]:
    """Returns the results, each with the rows of its job's file by benchmark as "sequences".

    Args:
        results: each with the name of its folder as "folder".
        folder: of the study.
    """
    return [
        result | {"sequences": read_sequences(folder / str(result.get("folder")) / SEQUENCES)} for result in results
    ]


def read_sequences(file: Path) -> dict[str, SequenceRows]:
    """Returns the rows of a `sequences.csv` by benchmark; none if the file is missing or damaged."""
    rows: dict[str, list[dict[str, str]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                rows.setdefault(row.pop("benchmark"), []).append(row)
        return {benchmark: _rows_of(found) for benchmark, found in rows.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _rows_of(rows: Sequence[dict[str, str]]) -> SequenceRows:
    names = tuple(row["sequence"] for row in rows)
    keys = [key for key in rows[0] if key != "sequence"]
    columns = {key: np.array([float(row[key] or "nan") for row in rows]) for key in keys}
    return SequenceRows(names, {key: values for key, values in columns.items() if not np.isnan(values).all()})
