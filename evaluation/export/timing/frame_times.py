"""Times of whole frames, as a user of a tracker waits for them, and of the network within them.

All trackers take turns on the frames of one video, beside a matrix product that measures what the machine can do.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from datamodules.synthetic.scene import Scene
from evaluation.export.rendered_video import RenderedVideo
from evaluation.export.timing.matrix_product import MatrixProduct
from evaluation.export.timing.paired_ratio import paired_ratio
from pruning.cost.latency import synchronised_time
from pruning.cost.turns import WARMUP, time_in_turns
from trackers.online import OnlineTracker

WIDTH, HEIGHT, FRAMES, SEED = 1280, 720, 40, 2  # of the video: one object in full sight, of 106 x 88 pixels at first
# Frames of each tracker before the rounds. DiMP updates its filter in each 20th frame, and a graph that is compiled is
# so in its first call.
WARM_UP_FRAMES = 25


@dataclass(frozen=True)
class FrameTimes:
    """Times of one tracker in the rounds of a profile.

    Attributes:
        whole: seconds of `update` in each round, (rounds,): crop, network and all that comes after.
        network: seconds within the network in each round, (rounds,); None if the tracker does not tell.
    """

    whole: np.ndarray
    network: np.ndarray | None

    def describe(self, first: "FrameTimes", rate: np.ndarray, macs: float | None) -> dict[str, Any]:
        """Returns the times as plain data.

        Args:
            first: times of the tracker that this one is compared with, in the same rounds.
            rate: multiply-accumulates per second of the matrix product in each round, (rounds,).
            macs: multiply-accumulates of the network in a frame; None if they are not known.

        Returns:
            "frame" and "network" (None if it is not known): milliseconds "median", "p95" and "mean". "fps": frames over
            their seconds. "frame_speedup": how many times faster than the first tracker, see `paired_ratio`.
            "share_of_peak": the rate of the network over the one of the product, see `paired_ratio`; None if it is not
            known.
        """
        share = None
        if macs and self.network is not None:
            share = paired_ratio(macs / self.network, rate)
        return {
            "frame": _milliseconds(self.whole),
            "network": None if self.network is None else _milliseconds(self.network),
            "fps": float(1 / self.whole.mean()),
            "frame_speedup": paired_ratio(first.whole, self.whole),
            "share_of_peak": share,
        }


def _milliseconds(seconds: np.ndarray) -> dict[str, float]:
    found = {"median": np.median(seconds), "p95": np.percentile(seconds, 95), "mean": seconds.mean()}
    return {name: 1e3 * float(value) for name, value in found.items()}


class CallClock:
    """Sums the time of the calls of a function.

    Args:
        call: the function.
        device: torch device on which the function computes.
    """

    def __init__(self, call: Callable[..., Any], device: str):
        self._call, self._device, self._seconds = call, device, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        start = synchronised_time(self._device)
        try:
            return self._call(*args, **kwargs)
        finally:
            self._seconds += synchronised_time(self._device) - start

    @classmethod
    def around_network(cls, tracker: OnlineTracker, device: str) -> "CallClock":
        """Returns a clock of all that the network of a tracker computes. From then on, the tracker calls the clock."""
        runtime = tracker.loop.runtime
        clock = cls(runtime.run, device)
        setattr(runtime, "run", clock)  # noqa: B010 (to a type checker, it is a method of the class)
        return clock

    def take(self) -> float:
        """Returns the sum of seconds since the last call of this method."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


@cache
def profile_video() -> RenderedVideo:
    """Returns a synthetic video of one object that stays in sight."""
    scene = Scene(np.random.default_rng(SEED), WIDTH, HEIGHT, FRAMES)
    return RenderedVideo.of([scene.render(number) for number in range(FRAMES)])


def warmed_up(tracker: OnlineTracker, video: RenderedVideo) -> OnlineTracker:
    """Returns a tracker that has followed `WARM_UP_FRAMES` frames."""
    tracker.init(video.frames[0], video.box)
    for _, frame in zip(range(WARM_UP_FRAMES), video.endless(), strict=False):
        tracker.update(frame)
    return tracker


def time_frames(
    trackers: Mapping[Any, OnlineTracker],
    clocks: Mapping[Any, CallClock],
    products: Mapping[str, MatrixProduct],
    video: RenderedVideo,
    device: str,
    rounds: int,
    seconds: float,
) -> tuple[dict[Any, FrameTimes], dict[str, np.ndarray]]:
    """Times `update` of each tracker in rounds: each tracker gets one frame, and each product is computed once.

    Args:
        trackers: by name.
        clocks: of the networks of some of them.
        products: matrix products, by precision.
        video: what they track.
        device: torch device on which they compute.
        rounds: number of rounds after the warm-up, if the time is enough.
        seconds: time after which no further round starts, see `time_in_turns`.

    Returns:
        The times by name, and the rates of the products in each round, multiply-accumulates per second, (rounds,).
    """
    within: dict[Any, list[float]] = {name: [] for name in clocks}
    calls: dict[Any, Callable[[], Any]] = {("product", name): product.call for name, product in products.items()}
    for name, tracker in trackers.items():
        tracker.init(video.frames[0], video.box)
        calls["tracker", name] = _next_frame(tracker, video.endless(), clocks.get(name), within.get(name, []))
    found = time_in_turns(calls, device, seconds, rounds, before=wait_until_idle)
    times = {}
    for name in trackers:
        whole = found["tracker", name]
        times[name] = FrameTimes(whole, np.array(within[name][-len(whole) :]) if name in within else None)
    return times, {name: product.macs / found["product", name] for name, product in products.items()}


def wait_until_idle() -> None:
    """Waits until no thread of this process computes, but no longer than a tenth of a second.

    The threads of a library wait for further work in a busy loop, after two threads of OpenMP for 8 ms and of ONNX
    Runtime for 30 ms. That would slow the next call, of another library. A camera leaves such pauses, too.
    """
    for _ in range(50):
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0002:
            return


def protocol(video: RenderedVideo, rounds: int) -> str:
    """Returns the protocol in words."""
    return (
        f"{video.words}; {rounds} rounds, after {WARM_UP_FRAMES} frames of each tracker and at most {WARMUP} rounds "
        "for warm-up; trackers take turns in random order; a frame is "
        "update(image): crop, network, box; without decoding; begun when all threads rest; device synchronised"
    )


def _next_frame(
    tracker: OnlineTracker, frames: Iterator[np.ndarray], clock: CallClock | None, within: list[float]
) -> Callable[[], Any]:
    """Returns a function that tracks the next frame and adds the time of the network to `within`."""

    def call() -> None:
        tracker.update(next(frames))
        if clock is not None:
            within.append(clock.take())

    return call
