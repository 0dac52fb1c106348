"""Success and precision curves with bands: a bootstrap over sequences at each threshold."""

from dataclasses import dataclass

import numpy as np

from evaluation.tracking.metrics.bootstrap import score_band


@dataclass(frozen=True)
class Curve:
    """Shares of frames by threshold, for each sequence.

    Attributes:
        name: e.g. "success".
        axis: what the thresholds are, with their unit.
        thresholds: ascending, (t,).
        values: shares of each sequence, (s, t); NaN for a sequence of which no frame counts.
        weights: of the sequences, (s,): the frames that count where the protocol pools the frames of all sequences, or
            else 1.
    """

    name: str
    axis: str
    thresholds: np.ndarray
    values: np.ndarray
    weights: np.ndarray

    def mean(self) -> np.ndarray:
        """Returns the curve of all sequences together, (t,); sequences without weight do not count."""
        counts = self.weights > 0
        return self.weights[counts] @ self.values[counts] / self.weights[counts].sum()

    def band(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the ends of the 95 % interval at each threshold, (t,) each; None for fewer than two sequences.

        The band holds for each threshold by itself, and not for the whole curve at once.
        """
        return score_band(self.values, self.weights)


def success_curve(thresholds: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Curve:
    """Returns the curve of frames whose overlap passes each threshold."""
    return Curve("success", "overlap threshold", thresholds, values, weights)


def precision_curve(thresholds: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Curve:
    """Returns the curve of frames whose centre error in pixels is at most each threshold."""
    return Curve("precision", "largest centre error (pixels)", thresholds, values, weights)


def normalized_precision_curve(thresholds: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Curve:
    """Returns the curve of frames whose centre error, relative to the object's size, is at most each threshold."""
    return Curve("normalised precision", "largest centre error (of the object's size)", thresholds, values, weights)
