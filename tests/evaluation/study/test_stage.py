"""Stages: made once, shared, never half there, and known before they are made."""

import threading
import time
from pathlib import Path

import pytest

from evaluation.study.stage import Stage, ensure, state
from evaluation.study.stage_record import NAME, SCRATCH


def stage(make, *after, **depends):
    return Stage("parent", depends or {"lr": 1}, make, after)


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


def test_what_comes_before_is_part_of_the_key():
    def child_of(parent):
        return stage(None, parent, steps=3).key

    assert child_of(stage(None, lr=1)) == child_of(stage(None, lr=1))
    assert child_of(stage(None, lr=1)) != child_of(stage(None, lr=2))


def test_force_makes_each_stage_once_for_all_jobs_of_a_sweep(tmp_path):
    calls = []
    for command in ("", "a sweep", "another"):
        made = [ensure(stage(calls.append), tmp_path, command) for _ in range(2)]
        assert [m.cached for m in made] == [False, True]
    assert len(calls) == 3


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


def test_a_stage_that_was_killed_when_all_but_its_name_was_done_is_not_made_again(tmp_path, monkeypatch):
    def make(folder):
        (folder / SCRATCH).mkdir()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            ensure(stage(make), tmp_path)
    assert state(stage(None), tmp_path) == "cached"
    folder = ensure(stage(None), tmp_path).folder
    assert [p.name for p in folder.iterdir()] == [NAME]


def test_its_state_is_known_without_making_it(tmp_path):
    def make(folder):
        (folder / "step").write_text("7")
        raise RuntimeError

    def progress(folder):
        return f"at step {(folder / 'step').read_text()}"

    dies = Stage("parent", {"lr": 1}, make, progress=progress)
    assert state(dies, tmp_path) == "would run"
    with pytest.raises(RuntimeError):
        ensure(dies, tmp_path)
    assert state(dies, tmp_path) == "partly done, at step 7"
    assert state(dies, tmp_path, command="forced") == "would run"
    ensure(stage(lambda folder: None), tmp_path)
    assert state(dies, tmp_path) == "cached"


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
