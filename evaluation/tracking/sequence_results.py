"""What a tracker did in each sequence of a benchmark: the content of `sequences.csv`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.files import write_csv
from evaluation.tracking.metrics import SequenceScores

SEQUENCES = "sequences.csv"  # in the folder of a job
PARENT = "parent "  # in front of a metric of the parent


@dataclass(frozen=True)
class SequenceResults:
    """Results of each sequence.

    Attributes:
        frames: of the videos, (s,).
        fps: frames per second, (s,); NaN where no time was measured.
        lost_at: see `evaluation.tracking.metrics.lost`.
        scores: by the name of the report, as in the result's "metrics".
    """

    frames: list[int]
    fps: list[float]
    lost_at: list[int | None]
    scores: dict[str, SequenceScores]

    def write(self, path: Path, parent: "SequenceResults | None" = None) -> None:
        """Writes `sequences.csv`: a row for each report and sequence.

        The weighted mean of a metric's column is the score in the result, up to rounding. Columns of metrics that a
        protocol lacks are empty, and so are numbers that do not exist.

        Args:
            path: of the file.
            parent: results of the parent on the same sequences; its scores stand in columns "parent <metric>".
        """
        metrics = list(dict.fromkeys(metric for scores in self.scores.values() for metric in scores.values))
        columns = ["benchmark", "sequence", "frames", "fps", "lost_at", "weight", *metrics]
        columns += [f"{PARENT}{metric}" for metric in metrics if parent]
        rows = []
        for benchmark, scores in self.scores.items():
            values = dict(scores.values)
            if parent:
                values |= {f"{PARENT}{metric}": v for metric, v in parent.scores[benchmark].values.items()}
            for i, name in enumerate(scores.names):
                row = {"benchmark": benchmark, "sequence": name, "frames": self.frames[i]}
                row |= {"fps": csv_number(self.fps[i]), "lost_at": csv_number(self.lost_at[i])}
                row |= {"weight": csv_number(scores.weights[i])}
                rows.append(row | {metric: csv_number(v[i]) for metric, v in values.items()})
        write_csv(path, columns, rows)


def csv_number(value: Any) -> str:
    """Returns a number with at most 9 digits, whole numbers without a point; "" for None and NaN."""
    return "" if value is None or np.isnan(value) else f"{value:.9g}"
