"""Tests of lockstep tracking: one batched forward gives the boxes of separate tracking as targets come and go."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import pytest
import torch

from pruning.plan import Plan
from pruning.surgery import compact
from tests.trackers.dimp.test_tracker import small as small_dimp
from tests.trackers.networks import small_ostrack
from tests.trackers.stark.test_tracker import small_stark
from trackers.base import Tracker
from trackers.crops import CropSpec
from trackers.errors import TrackerError
from trackers.layers.attention import Attention
from trackers.online import Box, Lockstep, OnlineTracker
from trackers.pixels import network_input
from trackers.rules import Answer, Crop, OnlineRules
from trackers.runtimes.runtime import Runtime
from trackers.stark.tracker import Updating

Found = list[tuple[Box, float]]


@dataclass(frozen=True)
class Video:
    """Frames, the box in the first frame, and the step at which the first frame is shown."""

    frames: list[np.ndarray]
    box: Box
    start: int

    def shows(self, tick: int) -> bool:
        """Whether there is a frame, the first one excepted."""
        return self.start < tick < self.start + len(self.frames)


def video(seed: int, size: tuple[int, int], box: Box, start: int, length: int) -> Video:
    """Returns a video of (height, width) pictures: an object that moves over blocks."""
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 255, (*(-(-side // 8) for side in size), 3), dtype=np.uint8)
    still = background.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    (x, y, w, h), frames = (round(v) for v in box), []
    for t in range(length):
        frame = still.copy()
        shown = frame[y + 2 * t : y + h + 2 * t, x + t : x + w + t]
        shown[:] = 255 - shown // 2
        frames.append(frame)
    return Video(frames, box, start)


# Of two the windows reach over the edge; one leaves early, two join later, and at last one is alone.
VIDEOS = [
    video(0, (160, 200), (90.0, 70.0, 20.0, 16.0), 0, 8),
    video(1, (90, 110), (0.0, 0.0, 24.0, 18.0), 0, 5),
    video(2, (150, 100), (78.0, 128.0, 20.0, 20.0), 2, 8),
    video(3, (220, 180), (80.0, 90.5, 15.5, 22.0), 3, 6),
]
TICKS = range(max(v.start + len(v.frames) for v in VIDEOS))


def alone(tracker: Tracker) -> list[Found]:
    online, found = OnlineTracker(tracker), []
    for v in VIDEOS:
        online.init(v.frames[0], v.box)
        found.append([online.update(frame) for frame in v.frames[1:]])
    return found


def together(tracker: Tracker) -> list[Found]:
    """Tracks all videos in lockstep, with a changing order in the batch."""
    loop, targets, found = Lockstep(tracker), {}, [[] for _ in VIDEOS]
    for tick in TICKS:
        running = [i for i, v in enumerate(VIDEOS) if v.shows(tick)][:: -1 if tick % 2 else 1]
        images = [VIDEOS[i].frames[tick - VIDEOS[i].start] for i in running]
        results = loop.advance([targets[i] for i in running], images)
        for i, result in zip(running, results, strict=True):
            assert targets[i].box == result[0]
            found[i].append(result)
        targets |= {i: loop.begin(v.frames[0], v.box) for i, v in enumerate(VIDEOS) if v.start == tick}
    return found


def assert_same_boxes(found: list[Found], wanted: list[Found]) -> None:
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose([box for box, _ in mine], [box for box, _ in other], atol=1e-6)
        np.testing.assert_allclose([score for _, score in mine], [score for _, score in other], atol=1e-6)


def exact(tracker: Tracker) -> Tracker:
    """Converts a tracker to double precision, where rounding decides nothing, with boxes that change slowly."""
    tracker.online = replace(tracker.online, size_smoothing=0.5)
    return tracker.double()


def ostrack(**changes: object) -> Tracker:
    tracker = small_ostrack(**changes)
    tracker.network.box_head.conv3_size.bias.data.fill_(-1.1)  # boxes stay about as large as they are
    return exact(tracker)


def stark(**changes: object) -> Tracker:
    online = Updating(min_size=10.0, size_smoothing=0.0, update_interval=2, update_threshold=0.0)
    return exact(small_stark(online=online, **changes))


def child(tracker: Tracker) -> Tracker:
    """Cuts about four of ten units of all groups, which makes heads of all widths."""
    rng, groups = random.Random(0), tracker.groups()
    kept = {g.name: tuple(u for u in range(g.size) if rng.random() < 0.6) or (0,) for g in groups}
    compact(tracker.network, groups, Plan(kept))
    assert any(len({*m.widths}) > 1 for m in tracker.network.modules() if isinstance(m, Attention))
    return tracker


BATCHED = {
    "ostrack with elimination": ostrack,
    "ostrack without": lambda: ostrack(elimination=None),
    "ostrack child": lambda: child(ostrack()),
    "stark with one template": lambda: stark(class_head=False, template=CropSpec(32, 2.0)),
    "stark with two": stark,
    "stark child": lambda: child(stark(transformer={"position_in_values": True, "template_heads": 1})),
}


@pytest.mark.parametrize("make", BATCHED.values(), ids=BATCHED)
def test_boxes_are_those_of_one_by_one_and_a_batch_is_one_forward(make: Callable[[], Tracker]):
    tracker, batches, mixed = make(), [], []
    wanted = alone(tracker)
    forward, head = tracker.network.get_submodule(tracker.distilled[0]), tracker.network.box_head
    steps = type(tracker.rules()).steps

    def shows(rules: OnlineRules, runtime: Runtime, states: list, searches: list[Crop]) -> list[Answer]:
        mixed.append(len({crop.padding.any() for crop in searches}) == 2)
        return steps(rules, runtime, states, searches)

    hooks = [m.register_forward_hook(lambda module, given, out: batches.append(len(given[0]))) for m in (forward, head)]
    with mock.patch.object(type(tracker.rules()), "steps", shows):
        found = together(tracker)
    for hook in hooks:
        hook.remove()
    assert_same_boxes(found, wanted)
    running = [sum(v.shows(tick) for v in VIDEOS) for tick in TICKS]
    assert max(running) == 4
    assert batches == [n for n in running if n for _ in hooks]
    assert any(mixed)
    places = np.array([box for boxes in found for box, _ in boxes])
    assert len(np.unique(places.round(2), axis=0)) > 0.9 * len(places)  # none of which is a corner of its picture


def test_a_filter_for_each_target_is_learned_one_by_one():
    torch.manual_seed(0)
    tracker = small_dimp("tiny")
    assert not tracker.rules().lockstep
    assert_same_boxes(together(tracker), alone(tracker))


def test_a_crop_without_padding_has_the_tokens_of_the_network_alone():
    tracker = stark()
    rules, runtime = tracker.open()
    crops = [rules.crop(v.frames[0], v.box, rules.template)[0] for v in VIDEOS]
    states = [rules.start(runtime, crop) for crop in crops]
    assert [bool(state.joined.padded.any()) for state in states] == [False, True, False, False]
    for crop, state in zip(crops, states, strict=True):
        padding = torch.from_numpy(crop.padding)[None] if crop.padding.any() else None
        wanted = tracker.network.embed(network_input(torch.from_numpy(crop.pixels)[None], torch.double), padding)
        torch.testing.assert_close(state.templates[0].features, wanted.features)
        torch.testing.assert_close(state.templates[0].position, wanted.position)
    assert states[0].unpadded  # is computed once, and shared by all crops of the target
    assert not states[1].unpadded


def test_each_target_renews_its_own_template():
    tracker = stark()
    loop, (first, second) = Lockstep(tracker), VIDEOS[:2]
    targets = [loop.begin(first.frames[0], first.box)]
    loop.advance(targets, [first.frames[1]])
    targets.append(loop.begin(second.frames[0], second.box))
    templates = [target.memory.templates for target in targets]
    assert [templates[0][0].padded.any(), templates[1][0].padded.any()] == [False, True]
    loop.advance(targets, [first.frames[2], second.frames[1]])
    renewed = [target.memory.templates is not old for target, old in zip(targets, templates, strict=True)]
    assert renewed == [True, False]  # one has seen two frames, the other one


def test_a_wrong_image_moves_nobody():
    tracker = stark()
    loop = Lockstep(tracker)
    targets = [loop.begin(v.frames[0], v.box) for v in VIDEOS[:2]]
    with pytest.raises(ValueError, match="must be RGB"):
        loop.advance(targets, [VIDEOS[0].frames[1], VIDEOS[1].frames[1][..., 0]])
    with pytest.raises(ValueError, match="2 targets need one image each, but there are 1 images"):
        loop.advance(targets, [VIDEOS[0].frames[1]])
    assert [target.box for target in targets] == [v.box for v in VIDEOS[:2]]
    assert [target.memory.frame for target in targets] == [0, 0]


def test_nobody_is_followed():
    assert Lockstep(stark()).advance([], []) == []


@pytest.mark.parametrize("threads", [0, -3, 5000, 1.5])
def test_a_number_of_threads_that_makes_no_sense_is_refused(threads: int):
    with pytest.raises(TrackerError, match=f"threads={threads} must be at least 1"):
        Lockstep(small_ostrack(), threads=threads)
