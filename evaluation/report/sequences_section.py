"""The sequences of each job, as data for the script of the page, which shows the table of one job at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from evaluation.report.formatting import DOT
from evaluation.report.sequence_rows import SequenceRows
from evaluation.report.study_results import IDENTITY, Result, metrics_of, number_at
from evaluation.tracking.sequence_results import PARENT

THOUSAND = 1000  # scores are whole thousandths, since the page of a large study holds ten thousands of them


def sequences_of(finished: Sequence[Result]) -> dict[str, Any]:
    """Returns the data; {} if no job has sequences.

    Returns:
        "sets": the sequences, as "names" and the index of their "frames". "columns": lists of numbers, which jobs
        share: a parent has the same ones for all of its children. "jobs": "label", "metric", the index of its "set",
        and the indices of the columns "score", "parent", "fps" and "lost"; None if the job does not have them.
    """
    sets: dict[tuple, int] = {}
    columns: dict[tuple, int] = {}

    def index(values: np.ndarray | None, scale: float = 1) -> int | None:
        if values is None:
            return None
        numbers = tuple(None if np.isnan(value) else round(scale * float(value)) for value in values)
        return columns.setdefault(numbers, len(columns))

    jobs = []
    for label, metric, rows in _jobs(finished):
        frames = rows.columns.get("frames")
        jobs.append(
            {
                "label": label,
                "metric": metric,
                "set": sets.setdefault((rows.names, index(frames)), len(sets)),
                "score": index(rows.columns[metric], THOUSAND),
                "parent": index(rows.columns.get(PARENT + metric), THOUSAND),
                "fps": index(rows.columns.get("fps")),
                "lost": index(rows.columns.get("lost_at")),
            }
        )
    named = [{"names": names, "frames": frames} for names, frames in sets]
    return {"sets": named, "columns": list(columns), "jobs": jobs} if jobs else {}


def _jobs(finished: Sequence[Result]) -> Iterator[tuple[str, str, SequenceRows]]:
    """Yields the label, the main metric and the rows of each job and benchmark: pruned jobs first."""
    keys = [key for key in IDENTITY if key == "tracker" or len({result.get(key) for result in finished}) > 1]
    seeds, benchmarks = ({r.get("seed") for r in finished}, {b for r in finished for b in r.get("sequences") or ()})
    for result in sorted(finished, key=lambda result: result.get("ratio") == 1):
        for benchmark, rows in (result.get("sequences") or {}).items():
            metric = next((metric for metric in metrics_of([result], benchmark) if metric in rows.columns), None)
            if metric is None:
                continue
            parts = [str(result.get(key)) for key in keys] + [f"ratio {number_at(result, 'ratio'):g}"]
            parts += [f"seed {result.get('seed')}"] if len(seeds) > 1 else []
            parts += [benchmark] if len(benchmarks) > 1 else []
            yield DOT.join(parts), metric, rows
