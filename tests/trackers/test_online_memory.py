"""Tracking for hours needs no more memory than tracking for seconds."""

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CONF
from tests.trackers.networks import small_ostrack
from tests.trackers.stark.test_tracker import small_stark
from tests.trackers.test_online_input import BOX, FRAMES
from trackers import load_tracker
from trackers.online import OnlineTracker


def dimp() -> OnlineTracker:
    """A trained network, for it finds its target, learns from what it finds and fills its memory."""
    return load_tracker(CONF.parent / "weights" / "dimp_tiny.safetensors")


TRACKERS: dict[str, Callable[[], OnlineTracker]] = {
    "ostrack": lambda: OnlineTracker(small_ostrack()),
    "stark": lambda: OnlineTracker(small_stark()),
    "dimp": dimp,
}


def resident() -> float:
    """Memory of this process in MB."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        pytest.skip("memory is read from /proc")
    return int(statm.read_text().split()[1]) * 4096 / 2**20


@pytest.mark.attack
@pytest.mark.parametrize("build", TRACKERS.values(), ids=TRACKERS)
def test_two_thousand_frames_in_flat_memory(build):
    tracker, there_and_back = build(), FRAMES + FRAMES[-2:0:-1]
    tracker.init(FRAMES[0], BOX)
    measured = {}
    for i in range(1, 2001):
        tracker.update(there_and_back[i % len(there_and_back)])
        if i in (500, 2000):
            gc.collect()
            measured[i] = (resident(), len(gc.get_objects()))
    (early, few), (late, many) = measured.values()
    print(f"{early:.1f} MB after 500 frames, {late:.1f} MB after 2,000")
    assert late - early < 2  # 1.3 KB a frame
    assert many - few < 200


def test_the_memory_of_dimp_has_a_bound():
    tracker = dimp()
    size = tracker.tracker.online.memory
    tracker.init(FRAMES[0], BOX)
    lengths = []
    for i in range(1, 2 * size):
        tracker.update(FRAMES[i % 2])
        lengths.append(len(tracker.target.memory.memory))
    assert lengths[0] < lengths[-1] == max(lengths) == size
