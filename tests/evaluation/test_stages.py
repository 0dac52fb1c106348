"""Stages: made once, shared, never half there."""

import threading
import time

import pytest

from evaluation.stages import Stage, ensure


def stage(make, **depends):
    return Stage("parent", depends or {"lr": 1}, make)


def test_equal_dependencies_are_made_once(tmp_path):
    calls = []

    def make(folder):
        calls.append(folder)
        (folder / "weights").write_text("w")

    first = ensure(stage(make, a=1, b=2), tmp_path)
    again = ensure(stage(make, b=2, a=1), tmp_path)
    other = ensure(stage(make, a=1, b=3), tmp_path)
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert first.folder == again.folder != other.folder
    assert (again.folder / "weights").read_text() == "w"
    assert len(calls) == 2
    assert not ensure(stage(make, a=1, b=2), tmp_path, force=True).cached


def test_a_stage_that_fails_is_not_there_and_keeps_its_work(tmp_path):
    def fails(folder):
        (folder / "epoch1").write_text("")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        ensure(stage(fails), tmp_path)
    found = []
    made = ensure(stage(lambda folder: found.extend(p.name for p in folder.iterdir())), tmp_path)
    assert not made.cached
    assert found == ["epoch1"]


def test_of_two_jobs_one_makes_it_and_the_other_waits(tmp_path):
    calls, made = [], []

    def slow(folder):
        calls.append(1)
        time.sleep(0.3)

    jobs = [threading.Thread(target=lambda: made.append(ensure(stage(slow), tmp_path))) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(calls) == 1
    assert sorted(m.cached for m in made) == [False, True]
