"""What a job measures for its result."""

from evaluation.study import job_result
from tests.conftest import results


def test_a_tracker_that_is_its_own_parent_is_measured_once(run, monkeypatch):
    timed, counted = [], []
    latencies, size_of = job_result.latencies, job_result.size_of

    def time(trackers, device):
        timed.append(list(trackers.values()))
        return latencies(trackers, device)

    def count(tracker, file):
        counted.append(tracker)
        return size_of(tracker, file)

    monkeypatch.setattr(job_result, "latencies", time)
    monkeypatch.setattr(job_result, "size_of", count)
    (result,) = results(run("train", "ratio=1", "stages.parent.steps=1"))
    assert timed == [counted]
    assert len(counted) == 1
    measured = ("params", "macs", "bytes", "metrics", "intervals", "presence", "latency")
    assert result["parent"] == {key: result[key] for key in measured}
    assert result["speedup"] == {}
    assert result["retention_intervals"] == {}
