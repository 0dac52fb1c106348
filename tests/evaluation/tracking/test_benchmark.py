"""Benchmarks: from result files to scores with the names of their protocols."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.official_layouts import write_trackingnet
from datamodules.readers import read_got10k, read_trackingnet
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from evaluation.errors import UserError
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.metrics import GOT10k, OnePass, TrackingNet
from evaluation.tracking.result_files import read_boxes, read_track, save_track
from tests.conftest import results as results_of


@pytest.fixture
def sequences(got10k):
    return read_got10k(got10k, "val")


@pytest.fixture
def results(sequences, tmp_path):
    """Result files of a tracker that is always right and takes 20 ms."""
    for s in sequences:
        save_track(tmp_path, s, s.boxes, np.full(len(s), 0.02))
    return tmp_path


def test_one_protocol_goes_by_the_name_of_the_benchmark(sequences, results):
    found = Benchmark("mine", sequences, [GOT10k()]).scores(results)
    assert found["metrics"].keys() == found["still_box"].keys() == {"mine"}
    assert found["metrics"]["mine"]["AO"] == pytest.approx(1, abs=1e-3)  # boxes have 3 decimals
    assert 0 < found["still_box"]["mine"]["AO"] < 1
    assert found["still_box"]["mine"]["frames"] == sum((s.cover[1:] > 0).sum() for s in sequences)
    assert found["speed"]["mine"]["fps"] == pytest.approx(50)


def test_sequences_without_a_frame_that_counts_are_not_counted(sequences, results):
    hidden = replace(sequences[0], cover=np.r_[1, np.zeros(len(sequences[0]) - 1)])
    found = Benchmark("mine", SequenceTable.from_sequences([hidden, *list(sequences)[1:]]), [GOT10k()]).scores(results)
    assert found["metrics"]["mine"]["sequences"] == len(sequences) - 1
    with pytest.raises(UserError, match="the GOT-10k protocol counts no frame of its 1 videos"):
        Benchmark("mine", SequenceTable.from_sequences([hidden]), [GOT10k()]).check_scorable()


def test_several_protocols_are_told_apart(sequences, results):
    protocols = [OnePass("pytracking", "lasot"), OnePass("got10k", "lasot")]
    found = Benchmark("mine", sequences, protocols).scores(results)
    metrics = found["metrics"]
    assert list(metrics) == list(found["intervals"]) == ["mine/pytracking", "mine/got10k"]
    assert metrics["mine/pytracking"]["protocol"] != metrics["mine/got10k"]["protocol"]
    assert all(metrics[name].keys() > intervals.keys() for name, intervals in found["intervals"].items())


def test_sequences_csv_holds_what_the_score_is_made_of(sequences, results):
    names = sequences.names
    save_track(results, sequences[0], np.repeat(sequences[0].boxes[:1], len(sequences[0]), 0), np.zeros(6))
    child = Benchmark("mine", sequences, [GOT10k(), TrackingNet()]).scores(results)
    child["sequences"].write(results / "job" / "sequences.csv", parent=child["sequences"])
    with (results / "job" / "sequences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = ["AO", "SR0.5", "SR0.75", "AUC", "P", "P_norm"]
    assert list(rows[0]) == [
        *("benchmark", "sequence", "frames", "fps", "lost_at", "weight"),
        *(*metrics, *(f"parent {metric}" for metric in metrics)),
    ]
    assert [row["sequence"] for row in rows] == [*names, *names]
    assert [(row["frames"], row["fps"], row["lost_at"]) for row in rows[:2]] == [("6", "", ""), ("6", "50", "")]
    pooled = [row for row in rows if row["benchmark"] == "mine/got10k"]
    assert [int(row["weight"]) for row in pooled] == [(s.cover[1:] > 0).sum() for s in sequences]
    assert {row["weight"] for row in rows if row["benchmark"] == "mine/trackingnet"} == {"1"}
    for of in ("AO", "parent AO"):
        total = sum(int(row["weight"]) * float(row[of]) for row in pooled) / sum(int(row["weight"]) for row in pooled)
        assert total == pytest.approx(child["metrics"]["mine/got10k"]["AO"])
    assert pooled[0]["AUC"] == pooled[0]["parent AUC"] == ""


def test_what_trackers_are_shown_names_their_results(sequences, got10k, tmp_path):
    named = Benchmark("mine", sequences, [GOT10k()]).tracking_inputs()
    assert (
        named == Benchmark("mine", read_got10k(got10k, "val", cache=tmp_path), [OnePass("ostrack")]).tracking_inputs()
    )
    assert named != Benchmark("other", sequences, [GOT10k()]).tracking_inputs()
    assert named != Benchmark("mine", read_got10k(got10k, "train"), [GOT10k()]).tracking_inputs()


def test_an_annotation_that_a_protocol_refuses_is_found_before_anything_is_tracked(sequences):
    damaged = [replace(s, boxes=np.where(np.arange(len(s))[:, None] == 2, np.nan, s.boxes)) for s in sequences]
    with pytest.raises(ValueError, match=r"GOT-10k_Val_000001, frame 3: the annotated box is NaN"):
        Benchmark("mine", SequenceTable.from_sequences(damaged), [OnePass("pytracking", "lasot")]).check_scorable()


@pytest.fixture
def trackingnet(sequences, tmp_path) -> Path:
    """A data folder with the small world as chunk 11 of TrackingNet's training split."""
    write_trackingnet(tmp_path / "data" / "trackingnet" / "TRAIN_11", {s.name: s for s in sequences})
    return tmp_path / "data"


def test_trackingnet_is_scored_by_its_development_kit(run, small_checkpoint, trackingnet):
    outputs = run("eval", f"checkpoint={small_checkpoint}", "benchmark=trackingnet_train", f"paths.data={trackingnet}")
    (result,) = results_of(outputs)
    report = result["metrics"]["trackingnet_train"]
    assert report["protocol"] == "TrackingNet development kit, 2 of 2,511 sequences"
    assert report.keys() >= {"AUC", "P", "P_norm", "coverage"}
    sequences = read_trackingnet(trackingnet / "trackingnet", "train", [11])
    assert (report["sequences"], report["frames"]) == (len(sequences), sum(map(len, sequences)))
    boxes = next(outputs.rglob("boxes")) / "trackingnet_train"
    again = Benchmark("again", sequences, [TrackingNet()]).scores(boxes)
    assert again["metrics"]["again"] == report
    assert 0 < report["AUC"] < 1
    for s in sequences:
        assert len(read_boxes(boxes, s)) == len(s)
        save_track(trackingnet / "perfect", s, s.boxes, np.full(len(s), 0.1))
    perfect = Benchmark("perfect", sequences, [TrackingNet()]).scores(trackingnet / "perfect")["metrics"]["perfect"]
    assert [perfect[name] for name in ("AUC", "P", "P_norm", "coverage")] == pytest.approx([1, 1, 1, 1])


def named(*names):
    boxes = np.array([[1.0, 2, 3, 4]])
    return SequenceTable.from_sequences(Sequence(n, Path("/"), ["1.jpg"], boxes, np.zeros(1, bool)) for n in names)


def test_sequences_that_would_share_a_result_file_are_refused():
    with pytest.raises(DataError, match=r"walk and walk_time would write the same file walk_time\.txt; rename one"):
        Benchmark("mine", named("run", "walk_time", "walk"), [GOT10k()])


@pytest.mark.parametrize(
    "names", [("walk_time", "run"), ("Walk", "walk"), ("a b", "a", "b"), ("time", "_time", "x.txt")]
)
def test_other_names_have_files_of_their_own(tmp_path, names):
    sequences = Benchmark("mine", named(*names), [GOT10k()]).sequences
    for i, sequence in enumerate(sequences):
        save_track(tmp_path, sequence, np.full((1, 4), i), np.full(1, i))
    for i, sequence in enumerate(sequences):
        boxes, seconds = read_track(tmp_path, sequence)
        assert boxes[0, 0] == seconds[0] == i
