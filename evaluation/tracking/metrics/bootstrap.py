"""95 % intervals of scores, of differences and of retentions: a bootstrap over sequences."""

from typing import NamedTuple

import numpy as np

from evaluation.tracking.metrics.sequence_scores import SequenceScores

DRAWS = 10_000
FEW_SEQUENCES = 10
INTERVAL_PROTOCOL = "95 % bootstrap over sequences"


class Interval(NamedTuple):
    """The two ends of a 95 % interval."""

    low: float
    high: float


def score_interval(values: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Returns the interval of a score: the weighted mean of the scores of sequences.

    Args:
        values: score of each sequence, (s,).
        weights: of the sequences, (s,). A sequence without weight does not count.

    Returns:
        None if no interval can be told: fewer than two sequences count, or one of them has no score (NaN).
    """
    return _ratio_interval(values, np.ones(len(values)), weights)


def difference_interval(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Returns the paired interval of score(a) - score(b) of two trackers; for the rest see `score_interval`.

    Args:
        a, b: scores of each sequence, of two trackers, (s,) each.
        weights: of the sequences, (s,).
    """
    return _ratio_interval(a - b, np.ones(len(a)), weights)


def retention_interval(child: np.ndarray, parent: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Returns the paired interval of score(child) / score(parent); for the rest see `score_interval`.

    Args:
        child, parent: scores of each sequence, of two trackers, (s,) each.
        weights: of the sequences, (s,).

    Returns:
        None also if the parent's score is 0.
    """
    return _ratio_interval(child, parent, weights)


def score_intervals(scores: SequenceScores) -> dict[str, dict[str, float] | None]:
    """Returns the intervals of all metrics as plain data: "low" and "high"; None without an interval."""
    return {name: _plain(score_interval(values, scores.weights)) for name, values in scores.values.items()}


def retention_intervals(child: SequenceScores, parent: SequenceScores) -> dict[str, dict[str, float] | None]:
    """Returns the paired intervals of all retentions as plain data, like `score_intervals`.

    Args:
        child, parent: scores of the same sequences, in the same order.
    """
    return {
        name: _plain(retention_interval(values, parent.values[name], child.weights))
        for name, values in child.values.items()
    }


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval._asdict()


def _ratio_interval(above: np.ndarray, below: np.ndarray, weights: np.ndarray) -> Interval | None:
    counts = weights > 0
    x, y = above[counts] * weights[counts], below[counts] * weights[counts]
    if len(x) < 2 or not np.isfinite(x + y).all() or y.sum() <= 0:
        return None
    order = np.lexsort((y, x))  # the order of the sequences does not matter
    x, y = x[order], y[order]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(x), size=(DRAWS, len(x)))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = x[draws].sum(1) / y[draws].sum(1)
    low, high = np.nanquantile(ratios, (0.025, 0.975))
    return Interval(float(low), float(high))
