"""Running a benchmark: complete results only, isolated failures, and continued runs."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from datamodules.frames.decoder import Decoder
from datamodules.readers import read_folder, read_got10k
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from evaluation.tracking.result_files import is_tracked, read_boxes, read_seconds
from evaluation.tracking.runner import Runner, SequencesFailedError, _failures_of, _submitted
from evaluation.tracking.worker import Failure, frames_ahead, track
from tests.datamodules.frames.encoding import COUNT, VARIABLE, number_of, write_video
from trackers.loading import read_tracker
from trackers.online import Target

BOX = (1.0, 2.0, 3.0, 4.0)


class Echo:
    """A loop whose boxes hold the frame number. It fails on pictures whose first pixel is in `dislikes`."""

    def __init__(self, dislikes=()):
        self.dislikes, self.calls = dislikes, []

    def begin(self, image, box):
        return Target(box, {"frame": 0})

    def advance(self, targets, images):
        self.calls.append(len(targets))
        if any(image[0, 0, 0] in self.dislikes for image in images):
            raise RuntimeError("this picture is too ugly")
        for target in targets:
            target.memory["frame"] += 1
        return [((float(t.memory["frame"]), *BOX[1:]), 1.0) for t in targets]


class Painted:
    """A sequence in memory, of one colour. Frame `missing` cannot be read."""

    def __init__(self, name, length, colour=0, missing=None):
        self.name, self.colour, self.missing, self.length, self.read = name, colour, missing, length, []
        self.boxes = np.array([BOX])

    def __len__(self):
        return self.length

    def images(self):
        for i in range(self.length):
            yield self.image(i)

    def image(self, i):
        self.read.append(i)
        if i == self.missing:
            raise OSError(f"frame {i} is gone")
        return np.full((4, 4, 3), self.colour, np.uint8)


def numbers(folder, sequence):
    return read_boxes(folder, sequence)[:, 0].tolist()


def reasons(failures):
    return {name: failure.reason for name, failure in failures.items()}


def test_sequences_of_different_lengths_advance_together(tmp_path):
    sequences, loop = [Painted("a", 5), Painted("b", 1), Painted("c", 3)], Echo()
    assert track(loop, sequences, tmp_path, ahead=2) == {}
    assert loop.calls == [2, 2, 1, 1]
    for sequence in sequences:
        assert numbers(tmp_path, sequence) == [1.0, *range(1, len(sequence))]
        assert (read_seconds(tmp_path, sequence) >= 0).all()
        assert is_tracked(tmp_path, sequence)


def test_one_that_cannot_be_read_stops_no_other(tmp_path):
    sequences = [Painted("a", 5), Painted("broken", 5, missing=2), Painted("none", 5, missing=0)]
    assert reasons(track(Echo(), sequences, tmp_path, ahead=1)) == {
        "broken": "OSError: frame 2 is gone",
        "none": "OSError: frame 0 is gone",
    }
    assert [is_tracked(tmp_path, s) for s in sequences] == [True, False, False]
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", "a_time.txt", "a_presence.txt"}


def test_a_step_that_fails_for_one_fails_that_one_only(tmp_path):
    sequences = [Painted("a", 3), Painted("ugly", 4, colour=7), Painted("b", 5)]
    failures = track(Echo(dislikes=[7]), sequences, tmp_path, ahead=1)
    assert reasons(failures) == {"ugly": "RuntimeError: this picture is too ugly"}
    assert [is_tracked(tmp_path, s) for s in sequences] == [True, False, True]
    assert numbers(tmp_path, sequences[2]) == [1, 1, 2, 3, 4]


def test_a_box_that_is_no_number_is_a_failure(tmp_path):
    loop = Echo()
    loop.advance = lambda targets, images: [((np.nan, *BOX[1:]), 1.0) for _ in targets]
    assert "frame 2" in track(loop, [Painted("a", 3)], tmp_path, ahead=1)["a"].reason


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_frames_come_in_order_and_are_read_a_few_ahead(count):
    sequence = Painted("a", 8)
    frames = frames_ahead(sequence, count)
    assert next(frames).shape == (4, 4, 3)
    frames.close()
    assert sequence.read == list(range(len(sequence.read)))
    assert 1 <= len(sequence.read) <= count + 1
    assert len(list(frames_ahead(Painted("b", 8), count))) == 8


def test_an_unreadable_frame_is_an_error_when_it_is_its_turn():
    frames = frames_ahead(Painted("a", 5, missing=2), 4)
    next(frames)
    next(frames)
    with pytest.raises(OSError, match="frame 2"):
        next(frames)


# Video files

FAILING_STEP = """
import sys
from pathlib import Path
from types import SimpleNamespace
from datamodules.readers import read_folder
from evaluation.tracking.worker import track
from trackers.online import Target

def advance(targets, images):
    if len(targets) > 1:
        raise RuntimeError("this step fails")
    return [((1.0, 2.0, 3.0, 4.0), 1.0)]

loop = SimpleNamespace(begin=lambda image, box: Target(box, None), advance=advance)
print(track(loop, list(read_folder(sys.argv[1])), Path(sys.argv[2]), ahead=16))
"""


class Numbers(Echo):
    """A loop whose boxes hold the number that it saw in the picture."""

    def advance(self, targets, images):
        return [((float(number_of(image)), *BOX[1:]), 1.0) for _, image in zip(targets, images, strict=True)]


@pytest.fixture
def videos(tmp_path):
    """Ten video files with a variable frame rate, more than readers in random order keep open."""
    folder = tmp_path / "videos"
    folder.mkdir()
    first = write_video(folder / "0.mp4", times=VARIABLE)
    for path in (first, *(folder / f"{k}.mp4" for k in range(1, 10))):
        if path != first:
            shutil.copy(first, path)
        path.with_suffix(".txt").write_text("1,2,3,4\n")
    return list(read_folder(folder))


@pytest.fixture
def open_files(monkeypatch):
    """The paths of all videos that are opened, and the set of those that are open."""
    opened, still_open, start, close = [], set(), Decoder.__init__, Decoder.close

    def recorded_start(self, path):
        opened.append(path)
        start(self, path)
        still_open.add(self)

    def recorded_close(self):
        still_open.discard(self)
        close(self)

    monkeypatch.setattr(Decoder, "__init__", recorded_start)
    monkeypatch.setattr(Decoder, "close", recorded_close)
    return opened, still_open


@pytest.mark.parametrize("lockstep", [1, 8, 10])
def test_each_video_is_opened_once(videos, tmp_path, open_files, lockstep):
    opened, still_open = open_files
    for i in range(0, 10, lockstep):
        assert track(Numbers(), videos[i : i + lockstep], tmp_path, ahead=4) == {}
    assert all(numbers(tmp_path, s) == [1.0, *range(1, COUNT)] for s in videos)
    assert len(opened) == 10
    assert not still_open


def test_files_are_closed_before_anything_is_tried_again(videos, tmp_path, open_files):
    opened, still_open = open_files
    threads, loop = threading.active_count(), Numbers()
    begin, open_then, threads_then = loop.begin, [], []

    def watched_begin(image, box):
        open_then.append(len(still_open))
        threads_then.append(threading.active_count() - threads)
        return begin(image, box)

    def failing_advance(targets, images):
        if len(targets) > 1:
            raise RuntimeError("this step fails")
        return Numbers.advance(loop, targets, images)

    loop.begin, loop.advance = watched_begin, failing_advance
    assert track(loop, videos[:3], tmp_path, ahead=16) == {}
    assert open_then == threads_then == [1, 2, 3, 1, 1, 1]
    assert len(opened) == 6
    assert not still_open
    assert threading.active_count() == threads


def test_a_video_that_cannot_be_read_to_its_end_is_closed(videos, tmp_path, open_files):
    write_video(videos[1].folder, times=VARIABLE[:9])
    (failure,) = track(Numbers(), videos[:3], tmp_path, ahead=2).values()
    assert "1.mp4" in failure.reason
    assert "has changed" in failure.reason
    assert not open_files[1]


def test_a_failing_step_does_not_crash_the_process(videos, tmp_path):
    call = [sys.executable, "-c", FAILING_STEP, videos[0].folder.parent, tmp_path / "boxes"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stdout, done.stderr) == (0, "{}\n", "")


# Whole benchmarks


@pytest.fixture
def sequences(got10k):
    """Three videos of different lengths."""
    long = list(read_got10k(got10k, "train"))
    ends = zip(long, (6, 9, 4), strict=True)
    return SequenceTable.from_sequences(
        replace(s, frames=[*s.frames][:n], boxes=s.boxes[:n], absent=s.absent[:n], cover=s.cover[:n]) for s, n in ends
    )


def runner(workers=1, lockstep=1):
    return Runner(["cpu"], workers, lockstep, ahead=2)


@contextmanager
def failing(sequences, i):
    """Yields the sequences with one that cannot be read, and checks that the block fails with its name."""
    broken = list(sequences)
    broken[i] = replace(broken[i], folder=broken[i].folder / "nowhere")
    with pytest.raises(SequencesFailedError, match=rf"1 of 3 (?s:.*){broken[i].name}: UnreadableFrameError.*nowhere"):
        yield SequenceTable.from_sequences(broken)


def changed(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}


@pytest.mark.slow
def test_results_do_not_depend_on_workers_and_lockstep(small_checkpoint, sequences, tmp_path, spawned_quickly):
    load = partial(read_tracker, small_checkpoint)
    runner().run(load, sequences, tmp_path / "alone")
    runner(lockstep=2).run(load, sequences, tmp_path / "together")
    with failing(sequences, 1) as broken:
        runner(workers=2).run(load, broken, tmp_path / "spread")
    for i, s in enumerate(sequences):
        alone = read_boxes(tmp_path / "alone", s)
        assert len(np.unique(alone, axis=0)) > 1
        assert np.abs(read_boxes(tmp_path / "together", s) - alone).max() < 2e-3
        if i != 1:
            assert np.abs(read_boxes(tmp_path / "spread", s) - alone).max() < 2e-3


def test_what_is_there_is_kept_and_what_is_damaged_is_made_again(small_checkpoint, sequences, tmp_path):
    load = partial(read_tracker, small_checkpoint)
    runner().run(load, sequences, tmp_path)
    texts, before = {p.name: p.read_text() for p in tmp_path.iterdir()}, changed(tmp_path)
    kept, short, damaged = (s.name for s in sequences)
    (tmp_path / f"{short}.txt").write_text("".join(texts[f"{short}.txt"].splitlines(keepends=True)[:-1]))
    (tmp_path / f"{damaged}_time.txt").write_text("0.1\nnonsense\n")
    runner().run(load, sequences, tmp_path)
    assert {name for name, time in changed(tmp_path).items() if time == before[name]} == {
        f"{kept}.txt",
        f"{kept}_time.txt",
        f"{kept}_presence.txt",
    }
    assert (tmp_path / f"{short}.txt").read_text() == texts[f"{short}.txt"]
    runner().run(lambda: pytest.fail("nothing is left to track"), sequences, tmp_path)


def test_failures_are_told_at_the_end_and_tried_again(small_checkpoint, sequences, tmp_path):
    load = partial(read_tracker, small_checkpoint)
    with failing(sequences, 1) as broken:
        runner().run(load, broken, tmp_path)
    assert [is_tracked(tmp_path, s) for s in sequences] == [True, False, True]
    before = changed(tmp_path)
    runner().run(load, sequences, tmp_path)
    assert all(is_tracked(tmp_path, s) for s in sequences)
    assert before.items() <= changed(tmp_path).items()


def test_the_sequences_of_a_worker_that_died_are_failures():
    dead, alive = Future(), Future()
    dead.set_exception(BrokenProcessPool("terminated abruptly"))
    alive.set_result({"b": Failure("ugly", "")})
    job = [Painted("a", 1), Painted("b", 1)]
    assert reasons(_failures_of(dead, job)) == dict.fromkeys("ab", "BrokenProcessPool: terminated abruptly")
    assert _failures_of(alive, job) == {"b": ("ugly", "")}


def test_the_sequences_that_are_submitted_after_a_worker_has_died_are_failures(tmp_path, spawned_quickly):
    job = [Painted("a", 1), Painted("b", 1)]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert isinstance(pool.submit(os._exit, 1).exception(), BrokenProcessPool)
        done = _submitted(pool, job, tmp_path, 1)
    expected = "BrokenProcessPool: A child process terminated abruptly, the process pool is not usable anymore"
    assert reasons(_failures_of(done, job)) == dict.fromkeys("ab", expected)


def test_the_first_failure_from_each_place_is_logged_whole(small_checkpoint, sequences, tmp_path, monkeypatch, caplog):
    def crash(self, i):
        if self.name == sequences[0].name:
            raise KeyError("no such colour")
        raise ZeroDivisionError("a shadow has no area")

    monkeypatch.setattr(Sequence, "image", crash)
    with pytest.raises(SequencesFailedError, match=r"3 of 3 sequences(?s:.*)KeyError(?s:.*)ZeroDivisionError"):
        runner().run(partial(read_tracker, small_checkpoint), sequences, tmp_path)
    whole = [record.getMessage() for record in caplog.records if "in crash" in record.getMessage()]
    assert [sum(name in message for message in whole) for name in ("KeyError", "ZeroDivisionError")] == [1, 1]
    assert sum("ZeroDivisionError" in record.getMessage() for record in caplog.records) == 2


def test_an_interrupted_run_leaves_whole_files_only(small_checkpoint, sequences, tmp_path, monkeypatch):
    last = sequences[len(sequences) - 1]  # the shortest is tracked last

    real = Sequence.image

    def stop(self, i, reduction=1):
        if self.name == last.name and i == 2:
            raise KeyboardInterrupt
        return real(self, i)

    monkeypatch.setattr(Sequence, "image", stop)
    with pytest.raises(KeyboardInterrupt):
        runner().run(partial(read_tracker, small_checkpoint), sequences, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{s.name}{end}.txt" for s in sequences if s.name != last.name for end in ("", "_time", "_presence")
    }


@pytest.mark.parametrize(("key", "value"), [("workers", 0), ("lockstep", 0), ("ahead", -1), ("devices", [])])
def test_settings_that_make_no_sense_are_refused(key, value):
    given = {"devices": ["cpu"], "workers": 1, "lockstep": 1, "ahead": 1} | {key: value}
    with pytest.raises(ValueError, match=f"runner.{key}"):
        Runner(**given)
