"""Scores of reported presence: by hand, from result files, and in the result of an evaluation."""

import json
from dataclasses import replace

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.readers import read_got10k
from datamodules.sequences.table import SequenceTable
from evaluation.report.result_table import result_table
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.metrics import GOT10k
from evaluation.tracking.metrics.presence import PresenceTrack, found_mask, presence_report, roc_auc
from evaluation.tracking.result_files import is_tracked, read_presence, save_track
from trackers.presence import LOST, STATES, TRACKED, UNCERTAIN

CODE = {name: i for i, name in enumerate(STATES)}


def track(presence, states, visible, found=None) -> PresenceTrack:
    visible = np.array(visible, bool)
    codes = np.array([CODE[state] for state in states])
    return PresenceTrack(np.array(presence), codes, visible, visible if found is None else np.array(found, bool))


def test_auc_is_the_chance_that_a_present_frame_is_above_an_absent_one():
    rng = np.random.default_rng(0)
    present, absent = rng.integers(0, 9, 40) / 8, rng.integers(0, 7, 30) / 8  # with ties
    pairs = present[:, None] - absent
    assert roc_auc(present, absent) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert roc_auc(absent + 2, present) == 1
    assert np.isnan(roc_auc(present, absent[:0]))


def test_frames_of_all_videos_are_pooled_without_the_first_ones():
    first = track([1, 0.9, 0.8, 0.1], [TRACKED, TRACKED, UNCERTAIN, LOST], [1, 1, 1, 0])
    second = track([1, 0.6, 0.95, 0.05], [TRACKED, UNCERTAIN, TRACKED, LOST], [1, 0, 0, 1])
    report = presence_report([first, second])
    assert (report["present"], report["absent"]) == (3, 3)
    assert report["AUC"] == pytest.approx((2 + 2 + 0) / 9)  # .9 and .8 are above .1 and .6, .05 is above nothing
    assert report["false_alarms"] == pytest.approx(1 / 3)
    assert report["misses"] == pytest.approx(1 / 3)


def test_a_box_beside_the_object_is_not_found():
    boxes = np.tile([10.0, 10, 20, 20], (4, 1))
    predicted = boxes + [[0, 0, 0, 0], [5, 0, 0, 0], [40, 0, 0, 0], [0, 0, 0, 0]]
    visible = np.array([1, 1, 1, 0], bool)
    assert found_mask(predicted, boxes, visible).tolist() == [True, True, False, False]
    report = presence_report([track([1, 0.9, 0.2, 0.5], [TRACKED] * 4, visible, [1, 1, 0, 0])])
    assert report["found_AUC"] == 1 > report["AUC"]


@pytest.mark.parametrize("visible", [[1, 1, 1], [0, 0, 0], [0, 1, 1]])  # the first frame does not count
def test_nothing_is_reported_where_nothing_can_be_told_apart(visible):
    assert presence_report([track([1, 0.5, 0.2], [TRACKED] * 3, visible)]) is None
    assert presence_report([]) is None


@pytest.fixture
def sequences(got10k):
    """Videos of six frames; the object is absent in the last two frames of the first one."""
    first, *others = read_got10k(got10k, "val")
    hidden = replace(first, absent=np.arange(len(first)) >= 4, cover=None)
    shown = [replace(s, absent=np.zeros(len(s), bool), cover=None) for s in others]
    return SequenceTable.from_sequences([hidden, *shown])


def report_presence(folder, sequences, presence=0.75, state=TRACKED):
    for s in sequences:
        rows = np.column_stack([np.full(len(s), presence), np.full(len(s), CODE[state])])
        rows[~s.visible] = 0.125, CODE[LOST]
        save_track(folder, s, s.boxes, np.full(len(s), 0.02), rows)


def test_files_hold_presence_and_state_and_the_result_has_the_scores(sequences, tmp_path):
    report_presence(tmp_path, sequences)
    path = tmp_path / f"{sequences[0].name}_presence.txt"
    assert path.read_text().splitlines() == ["0.750000,2"] * 4 + ["0.125000,0"] * 2
    scores = Benchmark("mine", sequences, [GOT10k()]).scores(tmp_path)
    report = scores["presence"]["mine"]
    assert (report["AUC"], report["found_AUC"], report["false_alarms"], report["misses"]) == (1, 1, 0, 0)
    assert report["absent"] == 2
    table = result_table(json.loads(json.dumps({key: v for key, v in scores.items() if key != "sequences"})))
    assert f"mine, presence: {report['present']} frames show the object, 2 do not" in table
    assert any(line.split() == ["false", "alarms", "0.000"] for line in table.splitlines())
    assert "Presence, over all frames but the first" in table


def test_results_without_presence_are_complete_and_have_no_scores_of_it(sequences, tmp_path):
    report_presence(tmp_path, sequences)
    save_track(tmp_path, sequences[0], sequences[0].boxes, np.full(len(sequences[0]), 0.02))
    assert read_presence(tmp_path, sequences[0]) is None  # the old file is gone with the boxes that it belonged to
    assert is_tracked(tmp_path, sequences[0])
    assert Benchmark("mine", sequences, [GOT10k()]).scores(tmp_path)["presence"] == {}


def test_videos_that_always_show_the_object_have_no_scores_of_presence(sequences, tmp_path):
    shown = SequenceTable.from_sequences(list(sequences)[1:])
    report_presence(tmp_path, shown)
    assert Benchmark("mine", shown, [GOT10k()]).scores(tmp_path)["presence"] == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.5,1\n" * 5, "has 5 rows for 6 frames"),
        ("0.5,1\n" * 5 + "1.5,1\n", "a presence from 0 to 1 and a state from 0 to 2 in each row"),
        ("0.5,3\n" * 6, "a presence from 0 to 1 and a state from 0 to 2 in each row"),
        ("0.5,nan\n" * 6, "a presence from 0 to 1 and a state from 0 to 2 in each row"),
        ("tracked\n" * 6, "tracked"),
    ],
)
def test_a_damaged_file_is_named(sequences, tmp_path, text, words):
    report_presence(tmp_path, sequences)
    path = tmp_path / f"{sequences[0].name}_presence.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as error:
        read_presence(tmp_path, sequences[0])
    assert str(path) in str(error.value)
    assert not is_tracked(tmp_path, sequences[0])  # so the next run tracks it again
