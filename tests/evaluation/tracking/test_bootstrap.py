"""Intervals: what they must hold, what they cannot tell, and how often they cover the truth."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from evaluation.tracking.metrics import bootstrap
from evaluation.tracking.metrics.bootstrap import (
    difference_interval,
    retention_interval,
    retention_intervals,
    score_band,
    score_interval,
    score_intervals,
)
from evaluation.tracking.metrics.sequence_scores import SequenceScores

RNG = np.random.default_rng(0)
PARENT, NOISE = RNG.beta(5, 2, 60), 0.05 * RNG.standard_normal(60)
CHILD = (0.8 * PARENT + NOISE).clip(0, 1)
FRAMES = RNG.integers(20, 400, 60)


def test_the_interval_of_many_equal_weights_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).random(4_000)  # several blocks of draws
    found = np.array(score_interval(values, np.ones(4_000)))
    half = 1.96 * values.std() / math.sqrt(4_000)
    assert found == pytest.approx([values.mean() - half, values.mean() + half], abs=half / 10)


@pytest.mark.parametrize(
    ("weights", "effective", "quantile"),
    [([7] * 10, 10, 2.2622), ([1] * 5 + [3] * 5, 8, 2.3646), ([4, 0], 1, math.inf)],
)
def test_percentiles_are_expanded_for_the_effective_number(weights: list[int], effective: int, quantile: float) -> None:
    expanded = quantile * math.sqrt(effective / (effective - 1)) if effective > 1 else math.inf
    assert bootstrap._tail(np.array(weights)) == pytest.approx(NormalDist().cdf(-expanded), rel=1e-3)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (9, 2.2622), (99, 1.9842), (1e6, 1.9600)])
def test_students_quantiles(freedom: float, quantile: float) -> None:
    assert bootstrap._student_quantile(freedom) == pytest.approx(quantile, abs=1e-4)


def test_neither_the_order_of_sequences_nor_those_without_weight_matter() -> None:
    order = np.random.default_rng(3).permutation(60)
    wanted = retention_interval(CHILD, PARENT, FRAMES)
    assert retention_interval(CHILD[order], PARENT[order], FRAMES[order]) == wanted
    more = [np.append(values, extra) for values, extra in ((CHILD, np.nan), (PARENT, 0.5), (FRAMES, 0))]
    assert retention_interval(*more) == wanted
    assert retention_interval(CHILD, PARENT, 3 * FRAMES) == pytest.approx(wanted)


def test_paired_intervals_know_that_the_sequences_are_the_same() -> None:
    assert difference_interval(CHILD, CHILD, FRAMES) == (0, 0)
    assert retention_interval(0.5 * PARENT, PARENT, FRAMES) == pytest.approx((0.5, 0.5))
    low, high = difference_interval(CHILD, PARENT, FRAMES)
    child, parent = score_interval(CHILD, FRAMES), score_interval(PARENT, FRAMES)
    assert low < np.average(CHILD - PARENT, weights=FRAMES) < high
    assert high - low < (child.high - child.low + parent.high - parent.low) / 3
    assert difference_interval(PARENT, CHILD, FRAMES) == pytest.approx((-high, -low), abs=2e-3)


def test_few_and_equal_sequences() -> None:
    assert score_interval(np.array([0.2, 0.6]), np.ones(2)) == (0.2, 0.6)  # the whole range
    assert score_interval(np.full(9, 0.25), np.ones(9)) == (0.25, 0.25)
    assert score_interval(np.array([0.2, 0.6]), np.array([1e9, 1])) == pytest.approx((0.2, 0.6), abs=1e-6)


@pytest.mark.parametrize(
    ("child", "parent", "weights"),
    [
        ([0.5], [0.5], [1]),
        ([0.5, 0.6], [0.5, 0.6], [1, 0]),
        ([], [], []),
        ([0.5, math.nan], [0.5, 0.6], [1, 1]),
        ([0.5, 0.6], [math.nan, 0.6], [1, 1]),
        ([0.5, 0.6], [0, 0], [1, 1]),
        ([0.5, 0.6, 0.7], [0, 0, 0.1], [1, 1, 1]),  # draws without the third sequence are common
    ],
)
def test_no_interval(child: list[float], parent: list[float], weights: list[float]) -> None:
    child, parent, weights = (np.array(values, float) for values in (child, parent, weights))
    assert retention_interval(child, parent, weights) is None
    if len(child) < 2 or np.isnan(child).any() or not weights.all():
        assert score_interval(child, weights) is None


def test_a_band_is_the_interval_of_each_column() -> None:
    low, high = score_band(np.stack([CHILD, PARENT], 1), FRAMES)
    assert (low[0], high[0]) == pytest.approx(score_interval(CHILD, FRAMES), abs=2e-3)
    assert (low[1], high[1]) == pytest.approx(score_interval(PARENT, FRAMES), abs=2e-3)


def test_plain_data_of_all_metrics() -> None:
    names = [str(i) for i in range(60)]
    child = SequenceScores(names, {"AO": CHILD, "SR0.5": np.zeros(60)}, FRAMES)
    parent = SequenceScores(names, {"AO": PARENT, "SR0.5": np.zeros(60)}, FRAMES)
    low, high = retention_interval(CHILD, PARENT, FRAMES)
    assert retention_intervals(child, parent) == {"AO": {"low": low, "high": high}, "SR0.5": None}
    assert score_intervals(child)["SR0.5"] == {"low": 0, "high": 0}


@pytest.mark.parametrize("n", [10, 30])
def test_intervals_cover_the_truth_in_95_of_100_benchmarks(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    # benchmarks/intervals.py has populations that are harder.
    monkeypatch.setattr(bootstrap, "MOST_DRAWS", 1_000)
    values = np.random.default_rng(n).beta(3, 2, (n, 1_000))
    low, high = score_band(values, np.ones(n))
    assert 0.93 <= np.mean((low <= 0.6) & (high >= 0.6)) <= 0.97
