"""The ratio of two times that were measured in the same rounds, with an interval."""

from math import comb

import numpy as np

SHARE = 0.95  # of draws in which the interval holds the true median


def paired_ratio(numerator: np.ndarray, denominator: np.ndarray) -> dict[str, float]:
    """Returns the median over rounds of the ratio of two times, with a 95 % interval.

    Other work on the machine slows both calls of a round, so it cancels in the ratio of the round, and not in a ratio
    of two medians. The interval lies between two order statistics of the rounds' ratios: by the binomial distribution,
    at least 95 % of such intervals hold the median of any distribution. A bootstrap of the median is too narrow for ten
    rounds. Limit: rounds count as independent; if a disturbance lasts several rounds and slows one of the calls alone,
    the interval is too narrow. With fewer than six rounds, it is the whole range, and holds the median less often.

    Args:
        numerator, denominator: times of the same rounds, (n,) each.

    Returns:
        "ratio", "low" and "high".
    """
    ratios = np.sort(np.asarray(numerator) / np.asarray(denominator))
    rank = _rank(len(ratios))
    return {"ratio": float(np.median(ratios)), "low": float(ratios[rank]), "high": float(ratios[-1 - rank])}


def _rank(count: int) -> int:
    """Returns the largest k for which the interval from the k-th smallest to the k-th largest value is wide enough."""
    outside, rank = 2 / 2**count, 0  # probability that the median lies outside, for k = rank
    while rank + 1 < count / 2 and outside + 2 * comb(count, rank + 1) / 2**count <= 1 - SHARE:
        rank += 1
        outside += 2 * comb(count, rank) / 2**count
    return rank
