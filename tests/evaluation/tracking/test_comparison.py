"""Comparisons: differences are paired, few sequences are no evidence, and curves agree with the scores."""

import numpy as np
import pytest

from evaluation.tracking.comparison import by_attribute, differences, largest_changes, most_different
from evaluation.tracking.metrics import GOT10k, OnePass, Track, TrackingNet, bootstrap
from evaluation.tracking.metrics.sequence_scores import SequenceScores


def scores(*values, weights=None):
    values = np.array(values, float)
    names = [f"s{i}" for i in range(len(values))]
    return SequenceScores(names, {"AO": values}, np.ones(len(values)) if weights is None else np.array(weights))


def test_a_small_difference_on_every_sequence_is_evidence_although_scores_vary_widely():
    base = np.linspace(0, 0.9, 20)
    step = 0.02 + 0.01 * np.cos(np.arange(20))
    found = differences({"a": scores(*base), "b": scores(*(base + step)), "c": scores(*(base - step))})
    assert found.keys() == {"b", "c"}
    assert found["b"]["AO"].value == pytest.approx(step.mean())
    assert (found["b"]["AO"].verdict, found["c"]["AO"].verdict) == ("better", "worse")
    noise = np.where(np.arange(20) % 2, 0.1, -0.1)
    (other,) = differences({"a": scores(*base), "b": scores(*(base + noise))}).values()
    assert other["AO"].verdict == "no evidence of a difference"
    (rounding,) = differences({"a": scores(*base), "b": scores(*(base + 1e-6))}).values()
    assert rounding["AO"].verdict == "no evidence of a difference"
    (few,) = differences({"a": scores(*base[:9]), "b": scores(*(base + step)[:9])}).values()
    assert few["AO"].verdict == "too few sequences for evidence of a difference"
    assert few["AO"].as_plain_data()["interval"]["low"] > 0


def test_sequences_are_ordered_from_the_largest_loss_to_the_largest_gain():
    first, other = scores(0.5, 0.5, 0.5, 0.5, np.nan, 0.5), scores(0.1, 0.9, 0.5, 0.4, 0.3, 0.6)
    assert [c.sequence for c in largest_changes(first, other, "AO", 3)] == ["s0", "s3", "s5", "s1"]
    assert [c.sequence for c in largest_changes(first, other, "AO", 1)] == ["s0", "s1"]
    assert most_different({"a": first, "b": other}, "AO") == "s0"
    assert most_different({"a": other}, "AO") == "s0"
    assert most_different({"a": scores(0.1, 0.2, weights=[0, 1])}, "AO") == "s1"
    assert most_different({"a": scores(0.1, weights=[0])}, "AO") is None


def test_attributes_weigh_sequences_like_the_whole():
    first, other = scores(0.2, 0.8, 0.5, weights=[1, 3, 0]), scores(0.4, 0.4, 0.1, weights=[1, 3, 0])
    groups = {"fast": frozenset({"s0"}), "all": frozenset({"s0", "s1"}), "none": frozenset({"s2"})}
    (fast,) = by_attribute({"a": first, "b": other}, groups, "AO")
    assert (fast.attribute, fast.sequences) == ("fast", 1)
    assert fast.scores == pytest.approx({"a": 0.2, "b": 0.4})
    assert fast.differences["b"].value == pytest.approx(0.2)


@pytest.mark.parametrize("protocol", [GOT10k(), OnePass("pytracking"), OnePass("got10k"), TrackingNet()])
def test_curves_agree_with_the_scores_of_their_protocol(protocol, monkeypatch):
    monkeypatch.setattr(bootstrap, "MOST_DRAWS", 1_000)
    rng = np.random.default_rng(3)
    tracks = {}
    for name, length in (("long", 60), ("short", 12), ("middle", 30)):
        truth = np.tile([20.0, 20, 30, 40], (length, 1))
        predicted = truth + np.round(rng.normal(0, 6, truth.shape))
        tracks[name] = Track(predicted, truth, (200, 200))
    report = protocol.report(tracks)
    success, precision, *_ = protocol.curves(tracks)
    for curve in (success, precision):
        low, high = curve.band()
        assert curve.mean().shape == curve.thresholds.shape == low.shape
        assert (low <= curve.mean() + 1e-12).all()
        assert (curve.mean() <= high + 1e-12).all()
        assert low.sum() < high.sum()
    if isinstance(protocol, GOT10k):
        assert success.mean()[[50, 75]] == pytest.approx([report["SR0.5"], report["SR0.75"]])
        assert "no part of GOT-10k" in precision.name
    elif isinstance(protocol, TrackingNet):
        assert np.trapezoid(success.mean(), success.thresholds) == pytest.approx(report["AUC"])
    else:
        assert success.mean().mean() == pytest.approx(report["AUC"])
        assert precision.mean()[20] == pytest.approx(report["P"])
