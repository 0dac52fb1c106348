"""Tests of SuperDiMP's online loop: crops, memory, first-frame samples and localisation."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trackers.dimp.crops import cut_patch, reference_crop, replicated_crop, training_side, training_window
from trackers.dimp.first_frame import (
    FirstFrame,
    _blurred,
    _rotated,
    dropout_factors,
    first_frame_samples,
    shifted_boxes,
)
from trackers.dimp.localisation import Flag, Thresholds, keep_inside, localise
from trackers.dimp.memory import SampleMemory
from trackers.dimp.random_numbers import UniformNumbers
from trackers.runtimes.runtime import NumPyRuntime

# The colour of a pixel is its position: red is its row, green its column.
RAMP = np.zeros((200, 240, 3), np.uint8)
RAMP[..., 0], RAMP[..., 1] = np.arange(200)[:, None], np.arange(240)


def learned(box, factor, size, inside, compat):
    """Returns the training crop of `RAMP` around a box, and its window."""
    window = training_window(RAMP.shape, box, factor, size, inside, compat)
    return replicated_crop(RAMP, window, size, compat), window


def visible_spans(window, size):
    """Returns the rows and columns of `RAMP` at the centres of a crop's pixels."""
    along = (np.arange(size) + 0.5) * window.side / size - 0.5
    return window.top + along, window.left + along


def off(pixels, window):
    """Returns the displacement in picture pixels of a crop of `RAMP` from its window, measured without the rim."""
    rows, columns = visible_spans(window, len(pixels))
    mid = slice(3, -3)
    return (pixels[mid, mid, 0].T - rows[mid]).mean(), (pixels[mid, mid, 1] - columns[mid]).mean()


@pytest.mark.parametrize("side", [40.0, 41.3, 63.9])
def test_a_crop_shows_what_its_window_says(side):
    pixels, window = reference_crop(RAMP, (120.7, 99.2), side, 32, 1.5)
    assert off(pixels, window) == pytest.approx((0, 0), abs=1e-3)
    assert window.left + window.side / 2 == pytest.approx(120.7, abs=0.75)


@pytest.mark.parametrize("centre", [(118.5, 97.5), (119.5, 98.5), (120.5, 99.5), (121.5, 100.5)])
def test_only_exact_windows_of_large_targets_lie_where_they_say(centre):
    side, size = 140.0, 32  # every fourth pixel
    pixels, window = reference_crop(RAMP, centre, side, size, 1.5)
    offsets = np.array([int(centre[1] - 0.5), int(centre[0] - 0.5)]) % 4 - 1.5
    assert off(pixels, window) == pytest.approx(offsets, abs=1e-3)
    box = (centre[0] - 35, centre[1] - 35, 70, 70)
    pixels, window = learned(box, 2.0, size, 1.5, "exact")
    assert off(pixels, window) == pytest.approx((0, 0), abs=0.5)  # grey levels


@pytest.mark.parametrize("centre", [(3, 5), (238, 2), (-60, 190), (500, 500), (120, 100)])
@pytest.mark.parametrize("side", [20.2, 111.0, 199.0])
def test_windows_that_fit_move_into_the_picture(centre, side):
    _, (left, top, side) = reference_crop(RAMP, centre, side, 32, 1.5)
    assert left >= 0
    assert top >= 0
    assert left + side <= 240 + 5  # a thinned-out picture may end between two of its pixels
    assert top + side <= 200 + 5


@pytest.mark.parametrize(("side", "fitted"), [(210, 210), (300, 240), (330, 240), (500, 333)])
def test_windows_that_do_not_fit_shrink_and_the_picture_lies_in_their_middle(side, fitted):
    pixels, window = reference_crop(RAMP, (10, 190), side, 352, 1.5)
    assert window.side == pytest.approx(fitted, abs=1)
    assert window.top + window.side / 2 == pytest.approx(100, abs=0.5)
    rows, _ = visible_spans(window, 352)
    assert pixels[rows < -1, :, 0].max() == 0
    assert pixels[rows > 200, :, 0].min() == 199


def test_without_a_limit_the_window_stays_and_the_border_goes_on():
    pixels, window = reference_crop(RAMP, (0.5, 0.5), 64, 64, None)
    assert window == (-31, -31, 64)
    assert not pixels[:31, :31, :2].any()
    assert (pixels[40, 31:, 1] == np.arange(33)).all()


@pytest.mark.parametrize("centre", [(-500, 100), (500, 100), (120, -500), (120, 900)])
@pytest.mark.parametrize("side", [10.0, 300.0, 4000.0])
def test_a_crop_far_outside_shows_the_border(centre, side):
    pixels, _ = reference_crop(RAMP, centre, side, 32, None)
    assert pixels.shape == (32, 32, 3)
    if side == 10:
        across = 1 if centre[1] == 100 else 0
        assert np.ptp(pixels[..., across]) == 0


def test_the_first_patch_lies_around_the_nearest_pixel():
    _, window = reference_crop(RAMP, (120.4, 50.4), 60.4, 64, 1.5, first=True)
    assert window == pytest.approx((120.5 - 30.2, 50.5 - 30.2, 60.4))
    _, window = reference_crop(RAMP, (2, 2), 60, 64, 1.5, first=True)
    assert window.left < 0  # it never moves


@pytest.mark.parametrize("side", [0.0, -3.0, math.nan, math.inf])
def test_windows_without_a_side_are_refused(side):
    with pytest.raises(ValueError, match="finite"):
        reference_crop(RAMP, (120, 100), side, 32, 1.5)
    with pytest.raises(ValueError, match="positive"):
        training_window(RAMP.shape, (10, 10, side, 20), 6.0, 32, 1.5, "exact")


def test_rectangles_are_cut_too():
    pixels, patch = cut_patch(RAMP, (100, 120), (40, 60), (32, 48), 1.5)
    assert pixels.shape == (32, 48, 3)
    assert patch == ((81, 91), (121, 151))


def test_only_exact_training_crops_show_the_last_row_and_column():
    box = (220.0, 180.0, 20.0, 20.0)
    for compat, last in (("exact", (199, 239)), ("reference", (198, 238))):
        picture, window = learned(box, 2.99, 60, 1.5, compat)
        assert window == (180, 140, 60)
        assert tuple(picture[-1, -1, :2]) == last
    assert learned((100, 100, 20, 20), 3.0, 60, None, "reference")[0][0, 0, 1] == 80


def test_exact_sides_are_what_they_should_be():
    for side in range(1, 300):
        assert training_side(side, side, 6.0, 352, "exact") == 6 * side
        assert training_side(side, side, 6.0, 352, "reference") - 6 * side in (0, 1)


def test_moved_training_windows_lie_in_the_picture():
    for inside in (None, 1.5):
        assert training_window(RAMP.shape, (-20, 180, 30, 30), 5.0, 64, inside, "exact") == (0, 50, 150)
    assert training_window(RAMP.shape, (-20, 180, 30, 30), 5.0, 64, None, "exact", moved=False) == (-80, 120, 150)
    assert training_window(RAMP.shape, (100, 100, 100, 100), 3.0, 64, 1.5, "exact").side == 240
    assert training_window(RAMP.shape, (100, 100, 100, 100), 3.0, 64, None, "exact").side == 300


class Plain(NumPyRuntime):
    """Runtime that holds arrays and has no graph."""

    def run(self, graph, **inputs):
        raise NotImplementedError


def spot(size, row, column):
    patch = np.zeros((size, size, 3), np.float32)
    patch[row - 1 : row + 1, column - 1 : column + 1] = 100
    return patch


def centre_of(picture):
    weight = picture.mean(-1)
    along = np.arange(len(weight)) + 0.5
    return weight.sum(1) @ along / weight.sum(), weight.sum(0) @ along / weight.sum()


@pytest.mark.parametrize(
    "settings", [FirstFrame(), FirstFrame(angles=(), blurs=((1, 1),)), FirstFrame(translation=0, flip=False, copies=0)]
)
def test_first_frame_boxes_follow_their_targets(settings):
    size = 32
    samples, shifts = first_frame_samples(spot(64, 32, 32), size, UniformNumbers(1), settings)
    boxes = shifted_boxes(np.array([12.0, 13.0, 8.0, 6.0], np.float32), shifts, settings)
    assert samples.dtype == boxes.dtype == np.float32
    assert len(boxes) == settings.count == len(samples) + settings.copies
    for sample, box in zip(samples, boxes[: len(samples)].tolist(), strict=True):
        assert centre_of(sample) == pytest.approx((box[1] + 3, box[0] + 4), abs=1e-3)
    assert (boxes[:, 2:] == [8.0, 6.0]).all()
    assert (boxes[len(samples) :] == boxes[:1]).all()


def test_the_picture_is_mirrored_and_turned():
    settings = FirstFrame(translation=0, blurs=(), angles=(90,), random_shift=0)
    samples, shifts = first_frame_samples(spot(64, 32, 40), 32, UniformNumbers(1), settings)
    assert not shifts.any()
    places = [centre_of(sample) for sample in samples]
    assert places[0] == pytest.approx((16, 24))
    assert places[1] == pytest.approx((16, 8))
    assert sorted(abs(v - 16) for v in places[2]) == pytest.approx([0, 8], abs=1e-3)


def test_a_patch_without_room_goes_on_at_its_border():
    patch = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None], (16, 16, 3))
    samples, shifts = first_frame_samples(patch, 16, UniformNumbers(1), FirstFrame())
    assert samples.shape == (13, 16, 16, 3)
    assert shifts[1].tolist() == [4, 4]
    assert samples[1, 0, :, 0].tolist() == [0.0] * 4 + [float(i) for i in range(12)]


@pytest.mark.parametrize("sigmas", [(3, 1), (1, 3), (2, 2), (0.4, 5.5)])
def test_blurs_are_convolutions_with_zeros_outside(sigmas):
    patch = np.random.default_rng(0).uniform(0, 255, (31, 44, 3)).astype(np.float32)
    wanted = torch.from_numpy(patch).permute(2, 0, 1)[:, None].double()
    for sigma, shape in zip(sigmas, ((-1, 1), (1, -1)), strict=True):
        radius = math.ceil(2 * sigma)
        kernel = torch.exp(-(torch.arange(-radius, radius + 1).double() ** 2) / (2 * sigma**2))
        wanted = F.conv2d(wanted, (kernel / kernel.sum()).view(1, 1, *shape), padding="same")
    np.testing.assert_allclose(_blurred(patch, sigmas), wanted[:, 0].permute(1, 2, 0), atol=1e-4)


@pytest.mark.parametrize(("angle", "shift"), [(10, (0, 0)), (-45, (20, -7)), (90, (-3, 300)), (133.7, (1, 2))])
def test_rotations_are_exactly_bilinear(angle, shift):
    patch = np.random.default_rng(0).uniform(0, 255, (61, 44, 3)).astype(np.float32)
    mine = _rotated(patch, 32, list(shift), angle)
    rows, columns = (
        (torch.arange(32) - (32 - length) // 2 - by).clamp(0, length - 1).double()
        for length, by in zip(patch.shape[:2], shift, strict=True)
    )
    y, x = rows[:, None] / 30 - 1, columns[None] / 21.5 - 1
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    at = torch.stack([cos * x - sin * y * 30 / 21.5, sin * x * 21.5 / 30 + cos * y], -1)
    wanted = F.grid_sample(
        torch.from_numpy(patch).permute(2, 0, 1)[None].double(), at[None], "bilinear", "border", align_corners=True
    )
    np.testing.assert_allclose(mine, wanted[0].permute(1, 2, 0), rtol=1e-6, atol=1e-6)


def test_dropped_channels_are_gone_and_the_others_grow():
    numbers = np.array([[0.1, 0.2, 0.9, 0.0, 0.19, 0.5]] * 2, np.float32)
    factors = dropout_factors(6, lambda rows, columns: numbers, FirstFrame())
    np.testing.assert_allclose(factors, [[0, 1.25, 1.25, 0, 0, 1.25]] * 2)
    assert factors.dtype == np.float32


@pytest.mark.parametrize("seed", [0, 7])
def test_random_numbers_are_those_of_pytorch(seed):
    """Shapes of fewer than 16 numbers, of more, of none, and more than the generator makes at once, in one stream."""
    generator, uniform = torch.Generator().manual_seed(seed), UniformNumbers(seed)
    for shape in [(8, 2), (2, 512), (9, 4), (0, 32), (1, 1), (3, 5), (1, 17), (40, 40), (3, 4)]:
        numbers = uniform(*shape)
        assert numbers.dtype == np.float32
        assert np.array_equal(numbers, torch.rand(shape, generator=generator).numpy())


def test_a_copy_of_a_memory_shares_the_runtime_alone():
    runtime = Plain()
    memory = SampleMemory(runtime, np.ones((1, 1, 1, 1)), np.zeros((1, 4)), size=3)
    other = copy.deepcopy(memory)
    other.add(np.full((1, 1, 1, 1), 7.0), np.ones(4), 0.5)
    assert other._runtime is runtime
    assert (len(memory), len(other)) == (1, 2)
    assert memory.features.flatten().tolist() == [1, 0, 0]


def test_the_memory_never_overwrites_the_first_samples():
    first = np.arange(3.0).reshape(3, 1, 1, 1) + 100
    memory = SampleMemory(Plain(), first, np.zeros((3, 4)), size=6)
    slots = [memory.add(np.full((1, 1, 1, 1), float(t)), np.full(4, float(t)), 0.1) for t in range(40)]
    assert slots[:4] == [3, 4, 5, 3]
    assert min(slots) == 3
    assert np.array_equal(memory.features[:3], first)
    assert sorted(memory.features[3:].flatten().tolist()) == [37, 38, 39] == sorted(memory.boxes[3:, 0].tolist())
    assert memory.weights.sum() == pytest.approx(1, abs=0.01)
    assert memory.weights[:3].sum() == pytest.approx(0.25, abs=1e-6)
    assert int(memory.weights[3:].argmax()) + 3 == slots[-1]


def test_the_first_samples_fade_as_they_should():
    memory = SampleMemory(Plain(), np.zeros((15, 1, 1, 1)), np.zeros((15, 4)))
    anchors = {1: 0.9902, 11: 0.8972, 35: 0.7076, 101: 0.5549, 200: 0.3155}
    for t in range(1, 201):
        memory.add(np.zeros((1, 1, 1, 1)), np.zeros(4), 0.01)
        if t in anchors:
            assert memory.weights[:15].sum() == pytest.approx(anchors[t], abs=1e-4)
        assert len(memory) == np.count_nonzero(memory.weights) == min(15 + t, 50)


def test_a_memory_without_room_is_refused():
    with pytest.raises(ValueError, match=r"tracker\.online\.memory=15"):
        SampleMemory(Plain(), np.zeros((15, 1, 1, 1)), np.zeros((15, 4)), size=15)


def peaks(*places):
    scores = np.zeros((23, 23), np.float32)
    for row, column, value in places:
        scores[row, column] = value
    return scores


@pytest.mark.parametrize(
    ("scores", "flag", "place"),
    [
        (peaks((11, 11, 0.24)), Flag.NOT_FOUND, (0, 0)),
        (np.full((23, 23), math.nan), Flag.NOT_FOUND, None),
        (peaks((12, 9, 0.8)), Flag.NORMAL, (1, -2)),
        (peaks((12, 9, 0.8), (13, 10, 0.79)), Flag.NORMAL, (1, -2)),  # it is part of the target
        (peaks((12, 9, 0.3), (3, 20, 0.2)), Flag.NORMAL, (1, -2)),  # too weak to learn from
        (peaks((12, 9, 0.8), (3, 20, 0.5)), Flag.HARD_NEGATIVE, (1, -2)),
        (peaks((11, 12, 0.8), (1, 22, 0.75)), Flag.HARD_NEGATIVE, (0, 1)),
        (peaks((0, 22, 0.8), (12, 10, 0.75)), Flag.HARD_NEGATIVE, (1, -1)),
        (peaks((9, 12, 0.8), (17, 7, 0.75)), Flag.UNCERTAIN, (-2, 1)),
        (peaks((0, 0, 0.8), (22, 22, 0.75)), Flag.UNCERTAIN, (-11, -11)),
    ],
)
def test_each_kind_of_score_map_says_what_it_should(scores, flag, place):
    found = localise(scores, (2.0, 2.0), (0.0, 0.0), Thresholds())
    assert found.flag is flag
    assert place in (None, found.displacement)
    assert found.score == pytest.approx(scores.max(), nan_ok=True)


def test_the_last_position_says_which_of_two_is_the_target():
    scores = peaks((0, 0, 0.8), (22, 22, 0.75))
    for previous, place in (((-9.0, -9.0), (-11, -11)), ((9.0, 9.0), (11, 11))):
        assert localise(scores, (2.0, 2.0), previous, Thresholds())[::2] == (place, Flag.HARD_NEGATIVE)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"distractor": 0.5, "hard_negative": 0.25}, Flag.HARD_NEGATIVE),  # not as high as a distractor
        ({"distractor": 0.49, "hard_negative": 0.25}, Flag.UNCERTAIN),
        ({"hard_negative": 0.5}, Flag.NORMAL),
        ({"hard_negative": 0.49}, Flag.HARD_NEGATIVE),
        ({"hard_negative": 0.25, "not_found": 0.5}, Flag.NORMAL),
        ({"hard_negative": 0.5, "not_found": 1.0}, Flag.NORMAL),
        ({"hard_negative": 0.5, "not_found": 1.01}, Flag.NOT_FOUND),
    ],
)
def test_a_peak_on_a_threshold_is_not_above_it(changes, flag):
    """Peaks of 1 and 0.5, four cells apart and both near the last position; 1 is as high as a target must be."""
    scores = peaks((11, 11, 1.0), (11, 15, 0.5))
    assert localise(scores, (1.0, 1.0), (0.0, 0.0), Thresholds(**changes)).flag is flag


def test_a_map_may_be_wider_than_it_is_high():
    scores = np.zeros((5, 11), np.float32)
    scores[3, 9], scores[3, 3], scores[1, 9] = 0.8, 0.3, 0.45
    found = localise(scores, (1.0, 6.0), (0.0, 0.0), Thresholds(neighbourhood=2.0))
    assert found == ((1.0, 4.0), pytest.approx(0.8), Flag.HARD_NEGATIVE)  # 2 rows above the peak, not 6 columns beside


def test_the_scores_are_left_alone():
    scores = peaks((12, 9, 0.8))
    localise(scores, (4.0, 4.0), (0.0, 0.0), Thresholds())
    assert scores[12, 9] == np.float32(0.8)


def test_a_target_leaves_the_picture_by_a_part_of_its_size_at_most():
    assert keep_inside((-100, 50), (20, 40), (0, 0, 200, 240)) == (-6, 50)
    assert keep_inside((300, 300), (20, 40), (0, 0, 200, 240)) == (206, 252)
    assert keep_inside((300, 300), (20, 40), (0, 0, 200, 240), ratio=0.5) == (200, 240)
    assert keep_inside((-100, 300), (20, 40), (-90, 10, 100, 260)) == (-96, 272)
