"""Stability: properties of areas and breaking ratios, and the effect of failed, missing and meaningless jobs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.report.retention_curves import curves_of
from evaluation.report.stability import area, breaking_ratio, families_of, stability_of
from tests.evaluation.report.studies import job

RATIOS = st.floats(0.001, 1)
CURVES = st.dictionaries(RATIOS, st.floats(0, 1.2), min_size=2, max_size=8).map(lambda at: [*at.items(), (1.0, 1.0)])
FALLING = st.dictionaries(st.floats(0.001, 0.99), st.floats(0, 1), min_size=2, max_size=8).map(
    lambda at: [(1.0, 1.0), *zip(sorted(at, reverse=True), sorted(at.values(), reverse=True), strict=True)]
)


def spans(points: list) -> bool:
    return min(point[0] for point in points) < 0.99


@given(CURVES, st.randoms())
def test_points_may_come_in_any_order(points, random):
    points = list(dict(points).items())  # one value a ratio
    mixed = random.sample(points, len(points))
    assert area(mixed) == area(points)
    assert breaking_ratio(mixed, 0.5) == breaking_ratio(points, 0.5)


@given(st.lists(RATIOS, min_size=1, unique=True), st.floats(0, 2))
def test_the_area_of_a_constant_is_the_constant(ratios, level):
    points = [(ratio, level) for ratio in {*ratios, 1.0}]
    found = area(points)
    assert found is None if min(ratios) == 1 else found == pytest.approx(level)
    assert breaking_ratio(points, level) is None


@given(FALLING, st.floats(0.01, 0.99))
def test_the_area_of_a_falling_curve_falls_with_the_range(points, share):
    end = min(point[0] for point in points)
    whole, part = area(points), area(points, end**share)
    assert points[-1][1] - 1e-9 <= whole <= part + 1e-9 <= 1 + 2e-9
    assert area(points, end / 2) is None  # the curve does not reach that far


@given(CURVES.filter(spans))
def test_a_point_on_the_line_between_two_others_changes_nothing(points):
    points = sorted(dict(points).items())
    (low, below), (high, above) = points[:2]
    between = (math.sqrt(low * high), (below + above) / 2)
    assert area([*points, between]) == pytest.approx(area(points), abs=1e-6)
    for level in (0.5, 0.9):
        one, other = breaking_ratio([*points, between], level), breaking_ratio(points, level)
        assert (one is None) == (other is None) or abs(between[1] - level) < 1e-9
        if one and other and abs(between[1] - level) > 1e-9:
            assert one == pytest.approx(other, rel=1e-6)


@given(CURVES, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_level_breaks_no_later(points, one, other):
    low, high = sorted((one, other))
    early, late = breaking_ratio(points, high), breaking_ratio(points, low)
    assert late is None or (early is not None and early >= late * (1 - 1e-12))


@given(FALLING, st.floats(0.01, 0.99))
def test_on_a_falling_curve_the_break_lies_between_its_neighbours(points, level):
    found = breaking_ratio(points, level)
    held = [ratio for ratio, retention in points if retention >= level]
    lost = [ratio for ratio, retention in points if retention < level]
    if not lost:
        assert found is None
    else:
        assert max(lost) * (1 - 1e-9) <= found <= min(held) * (1 + 1e-9)


def test_numbers_by_hand():
    points = [(1, 1.0), (0.1, 0.8), (0.01, 0.0)]
    assert area(points) == pytest.approx((0.9 + 0.4) / 2)
    assert area(points, 0.1) == pytest.approx(0.9)
    assert breaking_ratio(points, 0.9) == pytest.approx(10**-0.5)
    assert breaking_ratio(points, 0.4) == pytest.approx(10**-1.5)
    assert breaking_ratio([(1, 1.0), (0.1, 0.3), (0.01, 0.95)], 0.5) > 0.1  # what broke and came back has broken


def one(results: list[dict], tracker: str = "ostrack"):
    return next(row for row in stability_of(results) if row.curve.identity[0] == tracker and row.curve.metric == "AO")


def test_seeds_give_the_mean_and_the_spread():
    results = [job(ratio=ratio, seed=seed, ao=ao) for seed, ao in ((1, 0.4), (2, 0.3)) for ratio in (0.5, 0.1)]
    row = one(results)
    assert [point.mean for point in row.curve.points] == pytest.approx([1, 0.7, 0.7])
    areas = [area([(1, 1), (0.5, level), (0.1, level)]) for level in (0.8, 0.6)]
    assert row.area == pytest.approx(sum(areas) / 2)
    assert row.area_std == pytest.approx(abs(areas[0] - areas[1]) / math.sqrt(2))
    assert (row.breaks[0.5].ratio, row.breaks[0.5].high, row.breaks[0.5].low) == (None, None, None)
    assert row.breaks[0.9].low < row.breaks[0.9].ratio < row.breaks[0.9].high < 1


def test_a_point_lies_at_the_ratio_that_was_achieved():
    points = one([job(ratio=0.5) | {"ratio_achieved": 0.48}]).curve.points
    assert [(point.requested, point.ratio) for point in points] == [(1, 1), (0.5, 0.48)]


def test_a_seed_that_lacks_a_ratio_is_named_and_does_not_shift_the_mean():
    results = [job(ratio=ratio, seed=seed, ao=0.4) for seed in (1, 2) for ratio in (0.5, 0.1)]
    lucky = job(ratio=0.5, seed=3, ao=0.5)
    failed = {"job": "ostrack-0.1-3", "status": "failed", "ratio": 0.1, "seed": 3, "error": "out of memory"}
    whole, partial = one(results), one([*results, lucky, failed])
    assert partial.curve.missing == ((3, 0.1),)
    assert partial.seeds == (1, 2)
    assert partial.area == whole.area
    assert [point.mean for point in partial.curve.points] == pytest.approx([1, (0.8 + 0.8 + 1) / 3, 0.8])


def test_curves_are_compared_over_the_range_that_all_reach():
    short = [job("stark", 0.5, ao=0.4)]
    results = [*(job("ostrack", ratio, ao=0.4) for ratio in (0.5, 0.1)), *short]
    for tracker in ("ostrack", "stark"):
        row = one(results, tracker)
        assert (row.down_to, row.area) == (0.5, pytest.approx(0.9))
    other = [result | {"ratio_of": "macs"} for result in short]
    assert one([*results[:2], *other]).down_to == 0.1  # another kind of ratio does not compare


def test_a_parent_no_better_than_a_still_box_says_nothing():
    hopeless = job(ratio=0.5, seed=2, ao=0.5) | {"still_box": {"synthetic": {"AO": 0.5, "SR0.5": 0.5}}}
    row = one([job(ratio=0.5, seed=1, ao=0.4), hopeless])
    assert (row.curve.informative, row.seeds) == ((1,), (1,))
    assert row.area == pytest.approx(0.9)
    alone = one([hopeless])
    assert (alone.seeds, alone.area, alone.breaks[0.9].ratio) == ((), None, None)


def test_results_without_anything_to_compare_have_no_stability():
    bare = {"status": "finished", "job": "a", "ratio": 0.5, "metrics": {"lasot": {"AUC": float("nan")}}}
    for results in ([], [{"status": "failed"}], [bare], [job(ratio=1, ao=0.5)]):
        assert stability_of(results) == []
    assert [curve.points[0].mean for curve in curves_of([job(ratio=1, ao=0.5)])] == [1, 1]


def test_a_family_is_the_mean_over_its_trackers():
    made_of = {"ostrack": "transformer", "mixformer": "transformer", "dimp": "CNN"}
    scores = {"ostrack": 0.4, "mixformer": 0.2, "dimp": 0.5}
    results = [job(tracker, 0.1, ao=scores[tracker]) | {"family": family} for tracker, family in made_of.items()]
    rows = stability_of(results)
    found = {row.family: row for row in families_of(rows) if row.metric == "AO"}
    transformer, cnn = found["transformer"], found["CNN"]
    assert (transformer.trackers, cnn.trackers) == (("mixformer", "ostrack"), ("dimp",))
    assert transformer.area == pytest.approx((0.9 + 0.7) / 2)
    assert (cnn.area, cnn.area_std) == (1, None)
    breaks = [one(results, tracker).breaks[0.9].ratio for tracker in ("ostrack", "mixformer")]
    assert transformer.breaks[0.9] == pytest.approx(math.sqrt(breaks[0] * breaks[1]))
    assert (transformer.breaks[0.5], transformer.broken[0.5]) == (None, 1)
