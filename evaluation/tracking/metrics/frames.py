"""The frames of all sequences in one array, so that metrics are computed without loops over frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.errors import UserError
from evaluation.tracking.metrics.track import Track


@dataclass
class Frames:
    """Boxes of all sequences, one sequence after the other.

    Attributes:
        names: of the sequences.
        lengths: of the sequences, (s,).
        predicted, truth: xywh, (n, 4) float64. They are copies, so a protocol may change them.
        missing: frames without a prediction, (n,) bool.
    """

    names: list[str]
    lengths: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray
    missing: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """Index of the first frame of each sequence, (s,)."""
        return np.cumsum(self.lengths) - self.lengths

    def set_first_to_truth(self) -> None:
        """Replaces the first prediction of each sequence by the annotated box, which the tracker was given."""
        self.predicted[self.first] = self.truth[self.first]

    def location(self, frame: int) -> str:
        """Returns the sequence and the frame number in it (from 1), for an error message."""
        sequence = int(np.searchsorted(self.first, frame, side="right")) - 1
        return f"{self.names[sequence]}, frame {frame - self.first[sequence] + 1}"


def join_tracks(tracks: Mapping[str, Track], fill: float | None) -> Frames:
    """Joins the boxes of all tracks. Predictions after the last annotated frame are dropped.

    Args:
        tracks: by sequence.
        fill: all four numbers of a missing prediction. None drops its frame.

    Raises:
        UserError: there are no tracks.
    """
    if not tracks:
        raise UserError("there are no tracks to score")
    given = np.array([min(len(t.truth), len(t.predicted)) for t in tracks.values()])
    lengths = given if fill is None else np.array([len(t.truth) for t in tracks.values()])
    predicted, truth, missing = [], [], []
    for t, n, m in zip(tracks.values(), lengths, given, strict=True):
        predicted.append(t.predicted[:m])
        if n > m:
            predicted.append(np.full((n - m, 4), fill))
        truth.append(t.truth[:n])
        missing.append(np.arange(n) >= m)
    # Column-major, because the metrics work on whole columns.
    found, true = (np.concatenate(parts, out=np.empty((lengths.sum(), 4), order="F")) for parts in (predicted, truth))
    return Frames(list(tracks), lengths, found, true, np.concatenate(missing))


def join_labels(labels: Sequence[np.ndarray | None], lengths: np.ndarray, default: int) -> np.ndarray:
    """Joins one label for each frame of all sequences, (n,); a sequence without labels has `default` everywhere."""
    return np.concatenate([np.full(n, default) if own is None else own for own, n in zip(labels, lengths, strict=True)])
