"""Bad images and boxes are one message and change nothing; good ones give the same boxes in every form, unchanged."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import CONF
from tests.trackers.test_lockstep import video
from trackers import load_tracker
from trackers.errors import TrackerError
from trackers.online import Box, Lockstep, OnlineTracker

TRACKERS = ("ostrack", "stark", "dimp")
BOX = (30.0, 20.0, 24.0, 18.0)
FRAMES = video(0, (72, 96), BOX, 0, 6).frames
FRAME = FRAMES[0]

BAD_IMAGES: dict[str, Any] = {
    "None": None,
    "a path": "walk.jpg",
    "bytes": b"\xff\xd8",
    "a number": 3,
    "a list": [1, 2],
    "a ragged list": [[1, 2], [3]],
    "a list of numbers that are not uint8": FRAME.tolist(),
    "a mapping": {"image": FRAME},
    "a generator": (row for row in FRAME),
    "a tuple of cv2's read": (True, FRAME),
    "no pixels": np.zeros((0, 0, 3), np.uint8),
    "no rows": np.zeros((0, 96, 3), np.uint8),
    "no columns": np.zeros((72, 0, 3), np.uint8),
    "grey": FRAME[..., 0],
    "grey with a channel": FRAME[..., :1],
    "two channels": FRAME[..., :2],
    "RGBA": np.dstack([FRAME, FRAME[..., :1]]),
    "channels first": FRAME.transpose(2, 0, 1),
    "a batch": FRAME[None],
    "float32 in [0, 1]": FRAME.astype(np.float32) / 255,
    "float64": FRAME.astype(np.float64),
    "NaN": np.full((72, 96, 3), np.nan),
    "uint16": FRAME.astype(np.uint16) * 257,
    "int64": FRAME.astype(np.int64),
    "int8": FRAME.astype(np.int8),
    "bool": FRAME > 100,
    "complex": FRAME.astype(np.complex64),
    "objects": FRAME.astype(object),
    "records": np.zeros((72, 96, 3), [("red", np.uint8)]),
    "a tensor, channels first": torch.from_numpy(FRAME).permute(2, 0, 1),
    "a float tensor": torch.from_numpy(FRAME) / 255,
    "a bfloat16 tensor": torch.zeros(72, 96, 3, dtype=torch.bfloat16),
    "a tensor with a gradient": torch.zeros(72, 96, 3, requires_grad=True),
    "a tensor of another device": torch.zeros(72, 96, 3, dtype=torch.uint8, device="meta"),
    "a sparse tensor": torch.zeros(72, 96, 3, dtype=torch.uint8).to_sparse(),
    **{
        f"PIL {mode}": Image.fromarray(FRAME).convert(mode)
        for mode in ("1", "L", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "F", "I")
    },
    "PIL 16 bit": Image.fromarray(FRAME[..., 0].astype(np.uint16)),
    "PIL without pixels": Image.new("RGB", (0, 0)),
}

BAD_BOXES: dict[str, Any] = {
    "None": None,
    "a number": 5,
    "a word": "30,20,24,18",
    "four digits": "1234",
    "bytes": b"1234",
    "words": ["30", "20", "24", "18"],
    "nothing": (),
    "three numbers": (30, 20, 24),
    "five numbers": (30, 20, 24, 18, 1),
    "two boxes": [BOX, BOX],
    "two corners": [[30, 20], [54, 38]],
    "ragged": [[30, 20], [24]],
    "a mapping": {"x": 30, "y": 20, "w": 24, "h": 18},
    "a set": {30, 20, 24, 18},
    "a generator": (v for v in BOX),
    "an object": object(),
    "Nones": (None, None, None, None),
    "one None": (30, None, 24, 18),
    "booleans": (True, True, True, True),
    "complex": (30j, 20, 24, 18),
    "times": np.array([30, 20, 24, 18], "datetime64[s]"),
    "NaN": (np.nan, 20, 24, 18),
    "a NaN size": (30, 20, 24, np.nan),
    "infinite": (30, 20, np.inf, 18),
    "minus infinite": (-np.inf, 20, 24, 18),
    "negative size": (30, 20, -24, 18),
    "two negative sizes": (30, 20, -24, -18),
    "no width": (30, 20, 0, 18),
    "no height": (30, 20, 24, -0.0),
    "no area in floats": (30, 20, 1e-200, 1e-200),
    "denormal": (5e-324,) * 4,
    "right of the image": (96, 20, 24, 18),
    "below the image": (30, 72, 24, 18),
    "left of the image": (-24, 20, 24, 18),
    "above the image": (30, -18, 24, 18),
    "far away": (1e9, 1e9, 24, 18),
    "far larger": (-1e9, -1e9, 2e9, 2e9),
    "larger than floats": (0, 0, 1e300, 1e300),
    "larger than integers": (0, 0, 10**30, 10**30),
    "larger than any float": (10**400, 20, 24, 18),
    "too wide": (0, 20, 289, 18),
    "too high": (30, 0, 24, 217),
    "a tensor of NaN": torch.tensor([30, 20, torch.nan, 18]),
    "a tensor of another device": torch.zeros(4, device="meta"),
    "a bfloat16 tensor": torch.tensor(BOX, dtype=torch.bfloat16),
}

SAME_IMAGES: dict[str, Callable[[np.ndarray], Any]] = {
    "negative strides": lambda image: np.ascontiguousarray(image[..., ::-1])[..., ::-1],
    "flipped twice": lambda image: np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1],
    "a view of every second pixel": lambda image: image.repeat(2, 0).repeat(2, 1)[::2, ::2],
    "columns first": np.asfortranarray,
    "channels first in memory": lambda image: np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0),
    "three of four channels": lambda image: np.dstack([image, image[..., :1]])[..., :3],
    "read only": lambda image: np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape),
    "masked": lambda image: np.ma.masked_array(image, image > 128),
    "a buffer": lambda image: memoryview(image.copy()),
    "PIL": Image.fromarray,
    "a tensor": lambda image: torch.from_numpy(image.copy()),
    "a tensor view": lambda image: torch.from_numpy(image.transpose(2, 0, 1).copy()).permute(1, 2, 0),
}

SAME_BOXES: dict[str, Any] = {
    "a list": list(BOX),
    "integers": (30, 20, 24, 18),
    "numpy": np.array(BOX),
    "numpy integers": np.array([30, 20, 24, 18], np.uint8),
    "numpy float16": np.array(BOX, np.float16),
    "numpy scalars": tuple(np.float32(v) for v in BOX),
    "a row": np.array([BOX]),
    "a column": np.array([BOX]).T,
    "read only": np.frombuffer(np.array(BOX).tobytes()),
    "a tensor": torch.tensor(BOX),
    "a tensor with a gradient": torch.tensor(BOX, requires_grad=True),
    "tensors": [torch.tensor(v) for v in BOX],
}


@pytest.fixture(scope="module", params=TRACKERS)
def tracker(request: pytest.FixtureRequest) -> OnlineTracker:
    """A trained tiny tracker; its next `init` starts a new target."""
    return load_tracker(CONF.parent / "weights" / f"{request.param}_tiny.safetensors")


@pytest.fixture(scope="module")
def ostrack() -> OnlineTracker:
    return load_tracker(CONF.parent / "weights" / "ostrack_tiny.safetensors")


def boxes_of(tracker: OnlineTracker, frames: list[Any], box: Any = BOX) -> list[tuple[Box, float]]:
    tracker.init(frames[0], box)
    return [tracker.update(frame) for frame in frames[1:]]


def is_one_line(error: pytest.ExceptionInfo) -> bool:
    return "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("image", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_a_bad_image_is_one_message(ostrack, image):
    ostrack.init(FRAME, BOX)
    for call in (lambda: ostrack.update(image), lambda: ostrack.init(image, BOX)):
        with pytest.raises(TrackerError, match="image") as error:
            call()
        assert is_one_line(error)


@pytest.mark.parametrize("box", BAD_BOXES.values(), ids=BAD_BOXES)
def test_a_bad_box_is_one_message(ostrack, box):
    with pytest.raises(TrackerError, match="box") as error:
        ostrack.init(FRAME, box)
    assert is_one_line(error)


def test_calls_that_fail_change_nothing(tracker):
    """Every bad image and box, between the frames of a video that is tracked."""
    expected = boxes_of(tracker, FRAMES)
    tracker.init(FRAME, BOX)
    bad = [lambda image=image: tracker.update(image) for image in BAD_IMAGES.values()]
    bad += [lambda image=image: tracker.init(image, BOX) for image in BAD_IMAGES.values()]
    bad += [lambda box=box: tracker.init(FRAME, box) for box in BAD_BOXES.values()]
    found = []
    for i, frame in enumerate(FRAMES[1:]):
        for call in bad[i :: len(FRAMES) - 1]:
            with pytest.raises(TrackerError):
                call()
        found.append(tracker.update(frame))
    assert found == expected


def test_a_bad_image_among_several_changes_no_target(tracker):
    loop, frames = Lockstep(tracker.tracker), FRAMES[1:]
    targets = [loop.begin(FRAME, BOX), loop.begin(FRAME, (5, 5, 20, 20))]
    expected = [loop.advance(targets, [frame, frame]) for frame in frames]
    targets = [loop.begin(FRAME, BOX), loop.begin(FRAME, (5, 5, 20, 20))]
    found = []
    for frame in frames:
        for images in ([frame, None], [frame], [frame, frame[..., 0]]):
            with pytest.raises(TrackerError):
                loop.advance(targets, images)
        found.append(loop.advance(targets, [frame, frame]))
    assert found == expected


def test_an_update_before_init_is_one_message(tracker):
    with pytest.raises(RuntimeError, match=r"call init\(image, box\)"):
        OnlineTracker(tracker.tracker).update(FRAME)


@pytest.mark.parametrize("form", SAME_IMAGES.values(), ids=SAME_IMAGES)
def test_the_form_of_an_image_does_not_matter(tracker, form):
    assert boxes_of(tracker, [form(frame) for frame in FRAMES]) == boxes_of(tracker, FRAMES)


@pytest.mark.parametrize("box", SAME_BOXES.values(), ids=SAME_BOXES)
def test_the_form_of_a_box_does_not_matter(ostrack, box):
    assert boxes_of(ostrack, FRAMES[:3], box) == boxes_of(ostrack, FRAMES[:3])


def test_images_and_boxes_are_not_changed(tracker):
    frames, box = [frame.copy() for frame in FRAMES], np.array(BOX)
    boxes_of(tracker, frames, box)
    assert all((ours == theirs).all() for ours, theirs in zip(frames, FRAMES, strict=True))
    assert tuple(box) == BOX


def test_a_second_init_forgets_the_first(tracker):
    expected = boxes_of(tracker, FRAMES)
    tracker.init(FRAMES[3], (5, 40, 30, 20))
    tracker.update(FRAMES[4])
    assert boxes_of(tracker, FRAMES) == expected


def test_two_targets_of_one_network_do_not_disturb_each_other(tracker):
    others = FRAMES[::-1]
    expected, other = boxes_of(tracker, FRAMES), boxes_of(tracker, others, (5, 40, 30, 20))
    first, second = OnlineTracker(tracker.tracker), OnlineTracker(tracker.tracker)
    first.init(FRAMES[0], BOX)
    second.init(others[0], (5, 40, 30, 20))
    pairs = zip(FRAMES[1:], others[1:], strict=True)
    found = [(first.update(frame), second.update(reverse)) for frame, reverse in pairs]
    assert [a for a, _ in found] == expected
    assert [b for _, b in found] == other


SIZES = [(1, 1), (1, 96), (72, 1), (2, 2), (500, 3), (72, 96), (400, 600)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_size_of_images_may_change(tracker, size):
    tracker.init(FRAME, BOX)
    rng = np.random.default_rng(0)
    for height, width in (size, (72, 96), size):
        box, score = tracker.update(rng.integers(0, 255, (height, width, 3), np.uint8))
        assert np.isfinite(box).all()
        assert min(box[2:]) > 0
        assert box[0] < width
        assert box[1] < height
        assert 0 <= score <= 1


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (-200, -150, 288, 216), (95.5, 71.5, 1, 1), (30, 20, 1e-9, 1e-9), (0, 20, 96, 1e-3)]
)
def test_unusual_boxes_are_tracked(tracker, box):
    for found, score in boxes_of(tracker, FRAMES[:3], box):
        assert np.isfinite(found).all()
        assert min(found[2:]) > 0
        assert 0 <= score <= 1


def test_a_huge_image_costs_no_more_than_its_crop(tracker):
    """20,000 x 20,000 pixels that share one byte of memory."""
    image = np.broadcast_to(np.uint8(7), (20_000, 20_000, 3))
    for found, _ in boxes_of(tracker, [image, image], (10_000, 10_000, 60, 40)):
        assert np.isfinite(found).all()
