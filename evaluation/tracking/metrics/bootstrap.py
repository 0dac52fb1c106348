"""95 % intervals of scores, of differences and of retentions: a bootstrap over sequences.

Sequences are drawn with replacement, so an interval tells how far the number would be off if other videos of the same
kind had been chosen. It knows nothing of other trainings of the same tracker.

The percentiles of the drawn numbers are too narrow for few sequences. They are expanded like in Hesterberg, "What
Teachers Should Know About the Bootstrap", The American Statistician 2015: Student's t takes the place of the normal
distribution, and n / (n - 1) corrects the variance. Where sequences weigh differently, n is their effective number,
(sum of weights)^2 / (sum of squared weights) (Kish, "Survey Sampling", 1965). `benchmarks/intervals.py` compares the
method with others.
"""

from functools import lru_cache
from math import erfc, inf, pi, sqrt
from typing import NamedTuple

import numpy as np

from evaluation.tracking.metrics.sequence_scores import SequenceScores

# Fewer sequences are no evidence: intervals of 5 sequences cover the truth in 86 to 94 % of benchmarks, of 10 in 90 to
# 97 %. Where rare losses decide, they cover in half and in three quarters; see benchmarks/README.md.
FEW_SEQUENCES = 10
INTERVAL_PROTOCOL = (
    "95 % interval: bootstrap over sequences, percentiles expanded for their effective number; retentions and "
    "differences paired over the same sequences; one training each"
)
# Sequences in all draws together. The error of an end, about .0005 for scores, then does not depend on their number.
DRAWN, LEAST_DRAWS, MOST_DRAWS = 2_000_000, 1_000, 100_000


class Interval(NamedTuple):
    """The two ends of a 95 % interval."""

    low: float
    high: float


def score_interval(values: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Returns the interval of a score: the weighted mean of the scores of sequences.

    Equal arguments give equal intervals, in whichever order the sequences are. Sequences with equal scores give an
    interval without width, because a bootstrap knows no other scores.

    Args:
        values: score of each sequence, (s,).
        weights: of the sequences, (s,). A sequence without weight does not count.

    Returns:
        None if no interval can be told: fewer than two sequences count, or one of them has no score (NaN).
    """
    return _interval(values, np.ones(len(values)), weights)


def score_band(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the ends (t,) of the intervals of several scores at once, each for itself; see `score_interval`.

    Args:
        values: scores of each sequence, (s, t), e.g. one for each threshold of a curve.
        weights: of the sequences, (s,).
    """
    return _ends(values, np.ones(len(values)), weights)


def difference_interval(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Returns the paired interval of score(a) - score(b) of two trackers; for the rest see `score_interval`.

    Args:
        a, b: scores of each sequence, of two trackers, (s,) each.
        weights: of the sequences, (s,).
    """
    return score_interval(a - b, weights)


def retention_interval(child: np.ndarray, parent: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Returns the paired interval of score(child) / score(parent); for the rest see `score_interval`.

    Args:
        child, parent: scores of each sequence, of two trackers, (s,) each.
        weights: of the sequences, (s,).

    Returns:
        None also if the parent scores 0, in all sequences or in so many that draws without any other are common.
    """
    return _interval(child, parent, weights)


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


def _interval(above: np.ndarray, below: np.ndarray, weights: np.ndarray) -> Interval | None:
    """Returns the interval of one ratio; arguments (s,) as in `_ends`."""
    ends = _ends(above[:, None], below, weights)
    return None if ends is None else Interval(*(float(end[0]) for end in ends))


def _ends(above: np.ndarray, below: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the intervals of the weighted sums of `above` (s, t) divided by that of `below` (s,): (t,) each."""
    counts = weights > 0
    rows = np.column_stack([above[counts], below[counts]]) * weights[counts, None]
    if len(rows) < 2 or not np.isfinite(rows).all() or not rows[:, -1].sum() > 0:
        return None
    rows = rows[np.lexsort(rows.T)]  # so the order of the sequences does not matter
    sums = _draw_sums(rows)
    numerators, denominators = sums[:, :-1], sums[:, -1:]
    # A draw in which the parent scores 0 says nothing about a retention. It counts as a large one.
    ratios = np.divide(numerators, denominators, out=np.full(numerators.shape, inf), where=denominators > 0)
    tail = _tail(rows[:, -1])
    with np.errstate(invalid="ignore"):  # between two infinite draws
        low, high = np.quantile(ratios, (tail, 1 - tail), axis=0)
    return (low, high) if np.isfinite(high).all() else None


def _draw_sums(values: np.ndarray) -> np.ndarray:
    """Returns the sums (draws, k) of the rows of `values` (n, k) that each draw of n rows takes."""
    n = len(values)
    draws = min(max(DRAWN // n, LEAST_DRAWS), MOST_DRAWS)
    at_once = min(max(DRAWN // n, 1), draws)
    blocks = -(-draws // at_once)
    return np.concatenate([_draw(n, at_once, block) @ values for block in range(blocks)])


@lru_cache(maxsize=2)  # all metrics of a benchmark share their draws
def _draw(n: int, draws: int, block: int) -> np.ndarray:
    """Returns how often each draw takes each of n rows, (draws, n)."""
    rows = np.random.default_rng([n, block]).integers(n, size=(draws, n))
    rows += np.arange(draws)[:, None] * n
    return np.bincount(rows.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)


def _tail(weights: np.ndarray) -> float:
    """Returns the share of draws beyond each end of an interval, at most 0.025."""
    effective = weights.sum() ** 2 / (weights**2).sum()
    freedom = effective - 1
    if freedom < 1e-9:  # one sequence has all of the weight
        return 0.0
    return erfc(_student_quantile(freedom) * sqrt(effective / freedom) / sqrt(2)) / 2


def _student_quantile(freedom: float) -> float:
    """Returns the 97.5 % quantile of Student's t with `freedom` > 0 degrees of freedom."""
    # With t = sqrt(freedom) * tan(angle), the density is that of cos(angle) ** (freedom - 1).
    angles = np.linspace(0, min(pi / 2, 20 / sqrt(freedom)), 20_001)
    middles = (angles[1:] + angles[:-1]) / 2
    below = np.concatenate([[0], np.cumsum(np.cos(middles) ** (freedom - 1))])
    return float(sqrt(freedom) * np.tan(np.interp(0.95, below / below[-1], angles)))
