"""Calibration of a tracker's evidence."""

import pytest

from trackers.errors import TrackerError
from trackers.presence import LOST, TRACKED, UNCERTAIN, Presence

CALIBRATION = Presence(half=0.25, slope=2.0, tracked=0.8, lost=0.2)


def test_odds_are_a_power_of_the_evidence():
    assert CALIBRATION.probability(0.25) == pytest.approx(0.5)
    for evidence in (0.01, 0.2, 0.9, 1.3):
        odds = (evidence / 0.25) ** 2
        assert CALIBRATION.probability(evidence) == pytest.approx(odds / (1 + odds))


def test_no_evidence_overflows():
    steep = Presence(half=0.5, slope=1e5, tracked=0.8, lost=0.2)
    assert [steep.probability(e) for e in (-1, 0, 1e-300, 0.499, 0.501, 1e300)] == pytest.approx([0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize(
    ("presence", "state"),
    [(0.0, LOST), (0.19, LOST), (0.2, UNCERTAIN), (0.79, UNCERTAIN), (0.8, TRACKED), (1.0, TRACKED)],
)
def test_two_thresholds_make_three_states(presence, state):
    assert CALIBRATION.state(presence) == state


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"half": 0.0}, r"tracker\.online\.presence\.half=0\.0 must be above 0"),
        ({"slope": -1.0}, r"tracker\.online\.presence\.slope=-1\.0 must be above 0"),
        ({"slope": float("nan")}, r"slope=nan must be above 0"),
        ({"lost": 0.9}, r"lost=0\.9 and tracked=0\.8 must satisfy 0 <= lost <= tracked <= 1"),
        ({"tracked": 1.1}, r"tracked=1\.1 must satisfy"),
        ({"lost": -0.1}, r"lost=-0\.1 and"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused(changed, words):
    with pytest.raises(TrackerError, match=words):
        Presence(**{"half": 0.25, "slope": 2.0, "tracked": 0.8, "lost": 0.2} | changed)
