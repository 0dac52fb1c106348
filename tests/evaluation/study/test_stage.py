"""Stages: made once, shared, never half there, and known before they are made."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules import shared_files
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


def write_weights(folder: Path) -> None:
    (folder / "boxes").mkdir(exist_ok=True)
    (folder / "weights").write_bytes(b"w" * 99)
    (folder / "boxes" / "a.txt").write_text("1,2,3,4")


def drop_hashes(folder: Path) -> None:
    """As a version of this project did that wrote none."""
    record = json.loads((folder / NAME).read_text())
    del record["files"]
    (folder / NAME).write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "weights").unlink(),
        lambda folder: (folder / "weights").write_bytes(b"w" * 98),
        lambda folder: (folder / "weights").write_bytes(b"w" * 98 + b"v"),
        lambda folder: (folder / "weights").write_bytes(b""),
        lambda folder: (folder / "boxes" / "a.txt").write_text("1,2,3,5"),
        lambda folder: shutil.rmtree(folder / "boxes"),
        lambda folder: (folder / NAME).write_text("{"),
        lambda folder: (folder / NAME).write_text(""),
        lambda folder: (folder / NAME).write_text("[1]"),
        lambda folder: (folder / NAME).unlink(),
        drop_hashes,
    ],
)
def test_a_damaged_stage_is_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    folder = ensure(stage(write_weights), tmp_path).folder
    damage(folder)
    assert not ensure(stage(write_weights), tmp_path).cached
    assert ensure(stage(None), tmp_path).cached
    assert (folder / "weights").read_bytes() == b"w" * 99
    assert (folder / "boxes" / "a.txt").read_text() == "1,2,3,4"


def test_what_is_damaged_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = ensure(stage(write_weights), tmp_path).folder
    (folder / "weights").write_bytes(b"half")
    assert state(stage(None), tmp_path) == "would run"
    ensure(stage(write_weights), tmp_path)
    assert f"{folder} is damaged: weights has 4 bytes instead of 99. The stage is made again" in caplog.text


def test_a_stage_says_who_made_it(tmp_path: Path) -> None:
    made = ensure(stage(write_weights), tmp_path).provenance
    assert made.keys() == {"versions", "commit", "machine"}
    assert ensure(stage(None), tmp_path).provenance == made


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumps_changes_neither_what_is_found_nor_what_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    calls = []
    ensure(stage(calls.append), tmp_path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    for path in tmp_path.rglob("*"):
        os.utime(path, (now - jump, now - jump))  # and the file server's clock jumps the other way
    assert ensure(stage(calls.append), tmp_path).cached
    assert not ensure(stage(calls.append), tmp_path, "forced").cached
    assert ensure(stage(calls.append), tmp_path, "forced").cached
    assert len(calls) == 2


def test_whoever_waits_says_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_files, "PATIENCE", 0.05)
    working, done = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        working.set()
        done.wait(60)

    first = threading.Thread(target=lambda: ensure(stage(slow), tmp_path))
    first.start()
    assert working.wait(60)
    second = threading.Thread(target=lambda: ensure(stage(slow), tmp_path))
    second.start()
    end = time.monotonic() + 50
    while "waiting" not in caplog.text and time.monotonic() < end:
        time.sleep(0.05)
    done.set()
    first.join()
    second.join()
    assert f"stage parent: waiting for process {os.getpid()} on {os.uname().nodename}, since 20" in caplog.text
    assert ".lock` lists the processes that hold the lock" in caplog.text
    assert not list(tmp_path.glob("*.holder"))


def test_a_folder_that_cannot_be_emptied_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS a file that another job has mapped becomes .nfs..., which cannot be deleted."""
    folder = ensure(stage(write_weights), tmp_path).folder
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    assert not ensure(stage(write_weights), tmp_path, "forced").cached
    left = [path for path in tmp_path.iterdir() if shared_files.is_leftover(path)]
    assert len(left) == 1
    assert (left[0] / "weights").is_file(), "the other job reads on"
    assert (folder / "weights").is_file()


def test_messages_tell_the_two_evaluations_of_a_job_apart(tmp_path, caplog):
    caplog.set_level("INFO")
    parent = Stage("parent", {}, lambda folder: None)
    ensure(parent, tmp_path)
    for after in ((parent,), ()):  # of train.py, and of eval.py
        ensure(Stage("evaluation", {}, lambda folder: None, after), tmp_path)
    told = [message.partition(":")[0] for message in caplog.messages]
    assert told == ["stage parent", "stage evaluation of parent", "stage evaluation"]
