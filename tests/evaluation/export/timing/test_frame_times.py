"""Times of whole frames and of the network within, with a clock that the tests set."""

from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.export.rendered_video import RenderedVideo
from evaluation.export.timing import frame_times
from evaluation.export.timing.frame_times import CallClock, FrameTimes, time_frames
from evaluation.export.timing.matrix_product import MatrixProduct
from pruning.cost import turns

FRAMES = [np.full((4, 6, 3), i, np.uint8) for i in range(4)]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless a test moves it."""
    clock = SimpleNamespace(now=0.0)
    for module in (turns, frame_times):
        monkeypatch.setattr(module, "synchronised_time", lambda device: clock.now)
    monkeypatch.setattr(frame_times, "wait_until_idle", lambda: None)
    monkeypatch.setattr(turns, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


class Tracker:
    """Takes one second for all but its network, which is called twice a frame and takes `seconds` each time."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.seen = clock, seconds, []
        self.loop = SimpleNamespace(runtime=SimpleNamespace(run=self.network))

    def network(self, graph, **inputs):
        self.clock.now += self.seconds
        return {graph: inputs}

    def init(self, image, box):
        self.loop.runtime.run("template")

    def update(self, image):
        self.seen.append(int(image[0, 0, 0]))
        self.clock.now += 1
        assert self.loop.runtime.run("search", pixels=1) == {"search": {"pixels": 1}}
        self.loop.runtime.run("again")


def test_a_frame_and_the_network_within_are_timed_in_the_same_rounds(clock):
    def multiply():
        clock.now += 0.5

    trackers = {"slow": Tracker(clock, 2.0), "fast": Tracker(clock, 0.5)}
    clocks = {"fast": CallClock.around_network(trackers["fast"], "cpu")}
    video, products = RenderedVideo(FRAMES, (1, 1, 2, 2)), {"fp32": MatrixProduct("own", 100, multiply)}
    times, rates = time_frames(trackers, clocks, products, video, "cpu", rounds=12, seconds=1e9)
    np.testing.assert_allclose(rates["fp32"], np.full(12, 200))
    np.testing.assert_allclose(times["slow"].whole, np.full(12, 5.0))
    np.testing.assert_allclose(times["fast"].whole, np.full(12, 2.0))
    np.testing.assert_allclose(times["fast"].network, np.full(12, 1.0))  # without that of the first frame
    assert times["slow"].network is None
    assert trackers["slow"].seen[:8] == [1, 2, 3, 2, 1, 0, 1, 2], "forwards and backwards, so that no object jumps"


def test_numbers_of_a_row():
    times = FrameTimes(np.array([0.1] * 9 + [0.2]), np.array([0.05] * 10))
    found = times.describe(first=FrameTimes(np.array([0.3] * 10), None), rate=np.full(10, 4e9), macs=1e8)
    assert found["frame"]["median"] == pytest.approx(100)
    assert found["frame"]["p95"] == pytest.approx(155)
    assert found["frame"]["mean"] == pytest.approx(110)
    assert found["fps"] == pytest.approx(1 / 0.11)
    assert found["network"]["median"] == pytest.approx(50)
    assert found["frame_speedup"]["ratio"] == pytest.approx(3)
    assert found["share_of_peak"]["ratio"] == pytest.approx(0.5), "2e9 of 4e9 multiply-accumulates a second"
    assert times.describe(times, np.full(10, 4e9), macs=None)["share_of_peak"] is None
    assert FrameTimes(times.whole, None).describe(times, np.full(10, 4e9), macs=1e8)["network"] is None


def test_the_time_of_a_call_that_fails_counts_and_is_taken_once(clock):
    def fail():
        clock.now += 3
        raise ValueError

    called = CallClock(fail, "cpu")
    with pytest.raises(ValueError):  # noqa: PT011
        called()
    assert called.take() == 3
    assert called.take() == 0


def test_the_object_of_the_video_stays_in_sight(monkeypatch):
    monkeypatch.setattr(frame_times, "FRAMES", 3)
    monkeypatch.setattr(frame_times, "WIDTH", 320)
    monkeypatch.setattr(frame_times, "HEIGHT", 180)
    video = frame_times.profile_video.__wrapped__()
    assert [frame.shape for frame in video.frames] == [(180, 320, 3)] * 3
    x, y, w, h = video.box
    assert x > 0
    assert y > 0
    assert x + w < 320
    assert y + h < 180
    assert video.words == f"frames of 320 x 180, object of {w:.0f} x {h:.0f} pixels"


def test_a_call_begins_when_no_thread_computes(monkeypatch):
    busy = [0.002, 0.001, 0.0001, 0.002]  # seconds of work in each pause
    spent, pauses = [0.0], []

    def sleep(seconds):
        pauses.append(seconds)
        spent[0] += busy[min(len(pauses), 4) - 1]

    monkeypatch.setattr(frame_times, "time", SimpleNamespace(sleep=sleep, process_time=lambda: spent[0]))
    frame_times.wait_until_idle()
    assert len(pauses) == 3
    busy[2] = 0.002
    frame_times.wait_until_idle()
    assert len(pauses) == 53, "a process that is always busy is timed all the same"
