"""What the numbers of a result are evidence of."""

import pytest

from evaluation.report.evidence import ONE_SEED, evidence_of, few_note, noise_words, speed_note, speed_words
from tests.evaluation.report.studies import FASTER, dense, job, with_ends


def on_sequences(result, count):
    result["metrics"]["synthetic"]["sequences"] = count
    return result


def test_a_result_without_intervals_says_what_it_can():
    assert evidence_of(job()) == [ONE_SEED]
    assert evidence_of(dense()) == []
    assert evidence_of({}) == evidence_of({"status": "failed", "ratio": None, "speedup": None}) == []


def test_few_sequences_are_no_evidence_and_silence_the_intervals():
    few = on_sequences(with_ends(job()), 2)
    assert evidence_of(few) == ["2 sequences are too few: no evidence about other videos.", ONE_SEED]
    assert evidence_of(on_sequences(dense(), 1)) == ["1 sequence is too few: no evidence about other videos."]
    assert few_note(10) == few_note(None) == ""


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.93, 1.04), "The interval of the AO retention (93 to 104%) holds 100%: no evidence of a loss."),
        ((0.70, 0.90), "The child reaches less than its parent: 70 to 90% of the AO."),
        ((0.9, 0.996), "The child reaches less than its parent: 90.0 to 99.6% of the AO."),
        ((1.02, 1.10), "The child reaches more than its parent: 102 to 110% of the AO."),
    ],
)
def test_the_interval_of_the_retention_decides_about_a_loss(interval, words):
    assert evidence_of(with_ends(job(), retention=interval)) == [words, ONE_SEED]


def test_a_tracker_is_compared_with_a_box_that_never_moves():
    (no_better, *_) = evidence_of(job(ao=0.2))
    assert no_better == "No better than a box that never moves: the child reaches AO 0.200, the box 0.200."
    assert evidence_of(dense() | {"metrics": job(ao=0.1)["metrics"]})[0].startswith("No better than a box")
    (unsure, *_) = evidence_of(with_ends(job(ao=0.3), child=(0.2, 0.4)))
    assert "holds the score of a box that never moves (0.200): no evidence" in unsure


def test_a_retention_of_a_parent_that_follows_nothing_has_no_meaning():
    child = with_ends(job(), parent=(0.1, 0.9))
    (words, seed) = evidence_of(child)
    assert words.endswith("no evidence that it follows the object. A retention of it has no meaning.")
    assert seed == ONE_SEED


def test_a_speedup_is_compared_with_the_noise_of_the_parent_against_itself():
    assert speed_words(FASTER) == "1.47 times faster (1.42 to 1.52)"
    assert noise_words(FASTER) == "an unpruned one against itself: 0.99 to 1.01"
    assert speed_note("cpu", FASTER) == ""
    noisy = FASTER | {"noise": {"ratio": 1.2, "low": 0.9, "high": 1.43}}
    assert speed_note("cpu", noisy).startswith("On cpu no evidence that the child is faster")
    slower = FASTER | {"ratio": 0.8, "low": 0.75, "high": 0.85}
    assert speed_words(slower) == "0.80 times as fast (0.75 to 0.85)"
    assert speed_note("cpu", slower) == "On cpu the child is slower than its parent."
    assert evidence_of(job() | {"speedup": {"cpu": slower}})[0] == "On cpu the child is slower than its parent."
    assert speed_words({}) == noise_words({}) == speed_note("cpu", {}) == ""
