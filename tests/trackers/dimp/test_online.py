"""Tests of SuperDiMP's online loop: crops, memory, first-frame samples and localisation."""

import math

import numpy as np
import pytest
import torch

from trackers.dimp.crops import cut_patch, reference_crop, replicated_crop, training_side, training_window
from trackers.dimp.first_frame import FirstFrame, dropout_copies, first_frame_samples, shifted_boxes
from trackers.dimp.localisation import Flag, Thresholds, keep_inside, localise
from trackers.dimp.memory import SampleMemory

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


def spot(size, row, column):
    patch = torch.zeros(3, size, size)
    patch[:, row - 1 : row + 1, column - 1 : column + 1] = 100
    return patch


def centre_of(picture):
    weight = picture.mean(0)
    along = torch.arange(len(weight)) + 0.5
    return (weight.sum(1) @ along / weight.sum()).item(), (weight.sum(0) @ along / weight.sum()).item()


@pytest.mark.parametrize(
    "settings", [FirstFrame(), FirstFrame(angles=(), blurs=((1, 1),)), FirstFrame(translation=0, flip=False, copies=0)]
)
def test_first_frame_boxes_follow_their_targets(settings):
    size = 32
    samples, shifts = first_frame_samples(spot(64, 32, 32), size, torch.rand, settings)
    boxes = shifted_boxes(torch.tensor([12.0, 13.0, 8.0, 6.0]), shifts, settings)
    assert len(boxes) == settings.count == len(samples) + settings.copies
    for sample, box in zip(samples, boxes[: len(samples)].tolist(), strict=True):
        assert centre_of(sample) == pytest.approx((box[1] + 3, box[0] + 4), abs=1e-3)
    assert (boxes[:, 2:] == torch.tensor([8.0, 6.0])).all()
    assert torch.equal(boxes[len(samples) :], boxes[:1].expand(settings.copies, 4))


def test_the_picture_is_mirrored_and_turned():
    settings = FirstFrame(translation=0, blurs=(), angles=(90,), random_shift=0)
    samples, shifts = first_frame_samples(spot(64, 32, 40), 32, torch.rand, settings)
    assert not shifts.any()
    places = [centre_of(sample) for sample in samples]
    assert places[0] == pytest.approx((16, 24))
    assert places[1] == pytest.approx((16, 8))
    assert sorted(abs(v - 16) for v in places[2]) == pytest.approx([0, 8], abs=1e-3)


def test_a_patch_without_room_goes_on_at_its_border():
    patch = torch.arange(16.0).expand(3, 16, 16)
    samples, shifts = first_frame_samples(patch, 16, torch.rand, FirstFrame())
    assert samples.shape == (13, 3, 16, 16)
    assert shifts[1].tolist() == [4, 4]
    assert samples[1, 0, 0].tolist() == [0.0] * 4 + [float(i) for i in range(12)]


def test_dropped_channels_are_gone_and_the_others_grow():
    features = torch.rand(6, 4, 4) + 1
    numbers = torch.tensor([[0.1, 0.2, 0.9, 0.0, 0.19, 0.5]] * 2)
    copies = dropout_copies(features, lambda rows, columns: numbers, FirstFrame())
    expected = features / 0.8 * torch.tensor([0.0, 1, 1, 0, 0, 1])[:, None, None]
    assert torch.allclose(copies, expected.expand(2, 6, 4, 4))


def test_the_memory_never_overwrites_the_first_samples():
    first = torch.arange(3.0).view(3, 1, 1, 1) + 100
    memory = SampleMemory(first, torch.zeros(3, 4), size=6)
    slots = [memory.add(torch.full((1, 1, 1), float(t)), torch.full((4,), float(t)), 0.1) for t in range(40)]
    features, boxes, weights = memory.stored()
    assert slots[:4] == [3, 4, 5, 3]
    assert min(slots) == 3
    assert torch.equal(features[:3], first)
    assert sorted(features[3:].flatten().tolist()) == [37, 38, 39] == sorted(boxes[3:, 0].tolist())
    assert weights.sum().item() == pytest.approx(1, abs=0.01)
    assert weights[:3].sum().item() == pytest.approx(0.25, abs=1e-6)
    assert int(weights[3:].argmax()) + 3 == slots[-1]


def test_the_first_samples_fade_as_they_should():
    memory = SampleMemory(torch.zeros(15, 1, 1, 1), torch.zeros(15, 4))
    anchors = {1: 0.9902, 11: 0.8972, 35: 0.7076, 101: 0.5549, 200: 0.3155}
    for t in range(1, 201):
        memory.add(torch.zeros(1, 1, 1), torch.zeros(4), 0.01)
        if t in anchors:
            assert memory.stored()[2][:15].sum().item() == pytest.approx(anchors[t], abs=1e-4)
        assert len(memory) == len(memory.stored()[0]) == min(15 + t, 50)


def test_a_memory_without_room_is_refused():
    with pytest.raises(ValueError, match=r"tracker\.online\.memory=15"):
        SampleMemory(torch.zeros(15, 1, 1, 1), torch.zeros(15, 4), size=15)


def peaks(*places):
    scores = torch.zeros(23, 23)
    for row, column, value in places:
        scores[row, column] = value
    return scores


@pytest.mark.parametrize(
    ("scores", "flag", "place"),
    [
        (peaks((11, 11, 0.24)), Flag.NOT_FOUND, (0, 0)),
        (torch.full((23, 23), math.nan), Flag.NOT_FOUND, None),
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
    assert found.score == pytest.approx(scores.max().item(), nan_ok=True)


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
    scores = torch.zeros(5, 11)
    scores[3, 9], scores[3, 3], scores[1, 9] = 0.8, 0.3, 0.45
    found = localise(scores, (1.0, 6.0), (0.0, 0.0), Thresholds(neighbourhood=2.0))
    assert found == ((1.0, 4.0), pytest.approx(0.8), Flag.HARD_NEGATIVE)  # 2 rows above the peak, not 6 columns beside


def test_the_scores_are_left_alone():
    scores = peaks((12, 9, 0.8))
    localise(scores, (4.0, 4.0), (0.0, 0.0), Thresholds())
    assert scores[12, 9] == torch.tensor(0.8)


def test_a_target_leaves_the_picture_by_a_part_of_its_size_at_most():
    assert keep_inside((-100, 50), (20, 40), (0, 0, 200, 240)) == (-6, 50)
    assert keep_inside((300, 300), (20, 40), (0, 0, 200, 240)) == (206, 252)
    assert keep_inside((300, 300), (20, 40), (0, 0, 200, 240), ratio=0.5) == (200, 240)
    assert keep_inside((-100, 300), (20, 40), (-90, 10, 100, 260)) == (-96, 272)
