"""Scores of each sequence, from which a protocol's scores can be computed again."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class SequenceScores:
    """Scores of each sequence by one protocol, and what each sequence weighs in the score of all of them.

    Attributes:
        names: of the sequences, (s,).
        values: by metric, (s,) each; NaN for a sequence of which no frame counts.
        weights: (s,): the frames that count where the protocol pools the frames of all sequences, or else 1.
    """

    names: list[str]
    values: dict[str, np.ndarray]
    weights: np.ndarray

    def scores(self) -> dict[str, float]:
        """Returns the weighted mean of each metric: the scores of the protocol's report, up to rounding.

        A sequence without weight does not count; NaN if all are without weight, or if one that counts is NaN.
        """
        counts = self.weights > 0
        weights = self.weights[counts]
        with np.errstate(invalid="ignore"):
            total = np.float64(weights.sum())
            return {name: float((values[counts] * weights).sum() / total) for name, values in self.values.items()}

    def select(self, chosen: np.ndarray) -> "SequenceScores":
        """Returns the scores of a part of the sequences.

        Args:
            chosen: indices, or a mask (s,) bool.
        """
        names = np.array(self.names, object)[chosen].tolist()
        return SequenceScores(names, {name: v[chosen] for name, v in self.values.items()}, self.weights[chosen])


class Scores(NamedTuple):
    """What a protocol says about a tracker.

    Attributes:
        report: scores of all sequences together; see `Protocol.report`.
        sequences: scores of each sequence.
    """

    report: dict[str, Any]
    sequences: SequenceScores
