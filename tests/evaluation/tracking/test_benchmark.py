"""From result files to numbers with their protocols' names."""

from dataclasses import replace

import numpy as np
import pytest

from datamodules.readers import read_got10k
from datamodules.sequences.table import SequenceTable
from evaluation.tracking.benchmark import Benchmark
from evaluation.tracking.metrics import GOT10k, OnePass
from evaluation.tracking.result_files import save_track


@pytest.fixture
def sequences(got10k):
    return read_got10k(got10k, "val")


@pytest.fixture
def results(sequences, tmp_path):
    """Those of a tracker that is always right, and takes 20 ms."""
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


def test_several_protocols_are_told_apart(sequences, results):
    protocols = [OnePass("pytracking", "lasot"), OnePass("got10k", "lasot")]
    metrics = Benchmark("mine", sequences, protocols).scores(results)["metrics"]
    assert list(metrics) == ["mine/pytracking", "mine/got10k"]
    assert metrics["mine/pytracking"]["protocol"] != metrics["mine/got10k"]["protocol"]


def test_what_trackers_are_shown_names_their_results(sequences, got10k, tmp_path):
    named = Benchmark("mine", sequences, [GOT10k()]).tracked()
    assert named == Benchmark("mine", read_got10k(got10k, "val", cache=tmp_path), [OnePass("ostrack")]).tracked()
    assert named != Benchmark("other", sequences, [GOT10k()]).tracked()
    assert named != Benchmark("mine", read_got10k(got10k, "train"), [GOT10k()]).tracked()


def test_an_annotation_that_a_protocol_refuses_is_found_before_anything_is_tracked(sequences):
    damaged = [replace(s, boxes=np.where(np.arange(len(s))[:, None] == 2, np.nan, s.boxes)) for s in sequences]
    with pytest.raises(ValueError, match=r"GOT-10k_Val_000001, frame 3: the annotated box is NaN"):
        Benchmark("mine", SequenceTable.of(damaged), [OnePass("pytracking", "lasot")]).check_scorable()
