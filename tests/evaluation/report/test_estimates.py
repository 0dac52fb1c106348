"""Numbers with intervals: of one job as stored, of means over seeds from their sequences, and comparable latencies."""

from statistics import harmonic_mean

import numpy as np
import pytest

from evaluation.report.estimates import (
    Estimate,
    parent_score_estimate,
    retention_difference,
    retention_estimate,
    score_estimate,
    speedup_estimate,
)
from evaluation.report.latency import with_comparable_latencies
from evaluation.report.results_tables import results_tables, settings_of
from evaluation.report.sentences import MIXED, evidence
from evaluation.report.sequence_rows import SequenceRows, read_sequences
from evaluation.report.series import retention_series
from evaluation.report.study_results import floor_of
from evaluation.report.tradeoffs import tradeoffs_of
from evaluation.tracking.metrics.bootstrap import retention_interval, score_interval
from tests.evaluation.report.studies import dense, job, with_intervals

AO = ("synthetic", "AO")
RANDOM = np.random.default_rng(0)
PARENT, WEIGHTS = RANDOM.uniform(0.5, 0.9, 30), RANDOM.integers(20, 90, 30).astype(float)


def tracked(values: np.ndarray, parent: np.ndarray = PARENT, names: str = "v", **changes) -> dict:
    """Returns the result of a job whose scores are those of its sequences."""
    rows = SequenceRows(
        tuple(f"{names}{i}" for i in range(len(values))), {"AO": values, "parent AO": parent, "weight": WEIGHTS}
    )
    score, base = (float((v * WEIGHTS).sum() / WEIGHTS.sum()) for v in (values, parent))
    result = job(ao=score, **changes) | {"sequences": {"synthetic": rows}}
    result["retention"] = {"synthetic": {"AO": score / base}}
    result["parent"]["metrics"]["synthetic"]["AO"] = base
    return result


def children(*seeds: int, **changes) -> list[dict]:
    return [tracked(PARENT * np.random.default_rng(seed).uniform(0.6, 1, 30), seed=seed, **changes) for seed in seeds]


def test_one_seed_has_the_intervals_of_its_result():
    result = with_intervals(job(ratio=0.5, ao=0.4))
    assert score_estimate([result], *AO) == Estimate(0.4, (pytest.approx(0.35), pytest.approx(0.45)))
    assert retention_estimate([result], *AO) == Estimate(0.8, (pytest.approx(0.75), pytest.approx(0.85)))
    assert parent_score_estimate([result], *AO) == Estimate(0.5, (pytest.approx(0.45), pytest.approx(0.55)))
    assert retention_estimate([dense()], *AO) == Estimate(1.0, (1.0, 1.0))
    assert score_estimate([job(ao=0.4)], *AO) == Estimate(0.4, None)  # a result of an earlier version
    assert score_estimate([{"ratio": 0.5}], *AO) is None


def test_several_seeds_have_the_interval_of_their_mean_over_the_same_sequences():
    seeds = children(1, 2, 3)
    values = np.mean([seed["sequences"]["synthetic"].columns["AO"] for seed in seeds], 0)
    score = score_estimate(seeds, *AO)
    assert score.interval == score_interval(values, WEIGHTS)
    assert score.interval[0] < score.value < score.interval[1]
    retention = retention_estimate(seeds, *AO)
    assert retention.value == pytest.approx((values * WEIGHTS).sum() / (PARENT * WEIGHTS).sum())
    assert retention.interval == pytest.approx(retention_interval(values, PARENT, WEIGHTS), abs=0.005)
    other = tracked(PARENT / 2, names="other", seed=4)
    assert score_estimate([*seeds, other], *AO).interval is None  # other sequences
    assert score_estimate([*seeds, job(seed=5)], *AO).interval is None  # a job without its file


def test_a_parent_that_follows_nothing_has_no_part_in_mean_retentions():
    good, lost = tracked(PARENT * 0.6, seed=1), tracked(PARENT * 0.08, PARENT * 0.05, seed=2)
    assert retention_estimate([good, lost], *AO).value == pytest.approx(0.6)
    assert retention_estimate([lost], *AO).value == pytest.approx(1.6)
    (line,) = retention_series([good, lost], *AO)
    assert [point.mean for point in line.points] == pytest.approx([1, 0.6])
    ends = retention_difference([good, lost], [tracked(PARENT * 0.5, seed=1)], *AO).interval
    assert ends == pytest.approx((0.1, 0.1))
    box = 0.2 / good["parent"]["metrics"]["synthetic"]["AO"]
    assert floor_of([good, lost], *AO, relative=True) == pytest.approx((box, box))


def test_seeds_without_a_score_and_other_sequences_are_told():
    good, other = tracked(PARENT * 0.6, seed=1), tracked(PARENT * 0.5, names="w", seed=2)
    assert MIXED in evidence([good, other], [])
    assert MIXED not in evidence([good, tracked(PARENT * 0.5, seed=2)], [])
    other["metrics"] = {"another": other["metrics"]["synthetic"]}
    assert MIXED not in evidence([good, other], [])
    (_, table), _ = results_tables([[good, other]])
    column = [column.label for column in table["columns"]].index("Seeds")
    assert [row[column].text for row in table["rows"]] == ["1"]


def test_trackers_are_compared_on_the_same_sequences():
    good, poor = children(1, 2, tracker="dimp"), [tracked(PARENT * 0.5, seed=1)]
    difference = retention_difference(good, poor, *AO)
    assert difference.value == pytest.approx(retention_estimate(good, *AO).value - 0.5)
    # Half of the parent's score in every sequence varies with nothing, so all variation is that of the other tracker.
    ends = np.array(retention_estimate(good, *AO).interval) - 0.5
    assert difference.interval == pytest.approx(tuple(ends), abs=0.005)
    assert retention_difference(good, good, *AO).interval == (0, 0)
    assert retention_difference(good, [job(seed=1)], *AO) is None


def test_a_speed_up_over_seeds_is_that_of_the_mean_time():
    seeds = [with_intervals(job(ratio=ratio, seed=seed)) for seed, ratio in ((1, 0.5), (2, 0.25))]
    estimate = speedup_estimate(seeds, "cpu")
    assert estimate.value == pytest.approx(harmonic_mean([1.5, 2.5]))
    assert estimate.interval == (pytest.approx(1.45), pytest.approx(2.55))
    assert speedup_estimate([job(ratio=0.5)], "cpu") == Estimate(9 / 5.5, None)  # an earlier version: medians in turns
    assert speedup_estimate([with_intervals(dense())], "cpu") is None


def test_a_child_that_is_faster_in_turns_never_looks_slower_than_its_parent():
    busy = with_intervals(job(ratio=0.5))
    busy["latency"]["cpu"]["ms"], busy["parent"]["latency"]["cpu"]["ms"] = 20.5, 30.0  # another program ran
    study = with_comparable_latencies(
        [with_intervals(dense()), busy, with_intervals(job(ratio=0.25)), {"job": "failed"}]
    )
    assert [r["latency"]["cpu"]["ms"] for r in study[:3]] == pytest.approx([9, 9 / 1.5, 9 / 2.5])
    assert study[1]["parent"]["latency"]["cpu"]["ms"] == 9
    assert busy["latency"]["cpu"]["ms"] == 20.5  # the results themselves are left alone
    (line,) = tradeoffs_of(study[:3])[0].series
    assert [point.x for point in line.points] == pytest.approx([9, 9 / 1.5, 9 / 2.5])
    assert [point.x_interval for point in line.points[1:]] == [
        pytest.approx((9 / 1.55, 9 / 1.45)),
        pytest.approx((9 / 2.55, 9 / 2.45)),
    ]
    ((_, table),) = results_tables(settings_of(study[:3]))
    column = [column.label for column in table["columns"]].index("Speed-up")
    assert [row[column].text for row in table["rows"]] == ["\N{EN DASH}", "1.50 (1.45 to 1.55)", "2.50 (2.45 to 2.55)"]


def test_sequences_of_a_job_are_read_and_a_damaged_file_is_none(tmp_path):
    with_intervals(job(ratio=0.5, ao=0.4), tmp_path, sequences=3)
    file = next(tmp_path.rglob("sequences.csv"))
    rows = read_sequences(file)["synthetic"]
    assert rows.names == ("Video_000", "Video_001", "Video_002")
    assert rows.columns["lost_at"][0] == 7
    assert np.isnan(rows.columns["lost_at"][1:]).all()
    assert set(rows.parent().columns) == {"frames", "weight", "AO"}
    file.write_text(file.read_text().replace("Video_001,60", "Video_001,sixty"))
    assert read_sequences(file) == {}
    assert read_sequences(tmp_path / "sequences.csv") == {}
