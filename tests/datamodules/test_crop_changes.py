"""Changes of crops: the box stays on its target, and patches cover a part of it."""

import numpy as np
import pytest

from datamodules.augmentation import LabelledCrop
from datamodules.crop_changes import CropChanges, cover, stretch


def target(x: int, y: int, width: int, height: int, size: int = 64) -> LabelledCrop:
    """Returns a crop with a white target on black, whose first 8 columns are padding."""
    picture, padding = np.zeros((size, size, 3), np.uint8), np.zeros((2, size), bool)
    picture[y : y + height, x : x + width] = 255
    padding[1, :8] = True
    return LabelledCrop(picture, np.array([x, y, width, height], np.float32) / size, padding)


def seen(crop: LabelledCrop) -> list[int]:
    rows, columns = (crop.picture[..., 0] > 127).nonzero()
    return [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]


@pytest.mark.parametrize("amount", [-0.5, -0.2, 0.0, 0.2, 0.5])
@pytest.mark.parametrize("place", [(24, 20, 16, 20), (40, 36, 12, 8)])
def test_the_box_of_a_stretched_crop_lies_on_its_target(place, amount):
    before = target(*place)
    after = stretch(before, amount)
    np.testing.assert_allclose(seen(after), 64 * after.box, atol=1)
    np.testing.assert_allclose(after.box[:2] + after.box[2:] / 2, before.box[:2] + before.box[2:] / 2, atol=1e-6)
    assert np.log(after.box[2] / after.box[3]) == pytest.approx(np.log(place[2] / place[3]) + amount, abs=1e-5)
    assert after.box.dtype == np.float32


def test_padding_follows_a_stretched_crop():
    before = target(12, 20, 8, 16)
    before.picture[:, :8] = 50
    after = stretch(before, 0.3)
    shown = (after.picture[:, :, 0] == 50).all(0)
    assert 0 < shown.sum() < 8
    assert after.padding[1][shown].all()
    assert after.padding[1].sum() <= shown.sum() + 1  # one column shows both
    assert not after.padding[0].any()


def test_a_patch_covers_a_part_of_the_target():
    before, rng = target(16, 16, 32, 32), np.random.default_rng(0)
    covered = []
    for _ in range(50):
        after = cover(before, rng)
        assert np.array_equal(after.box, before.box)
        covered.append(1 - after.picture[16:48, 16:48, 0].mean() / 255)
    assert 0.1 < max(covered) < 0.5
    assert np.array_equal(before.picture, target(16, 16, 32, 32).picture)


def test_a_target_without_room_for_a_patch_stays():
    before = target(10, 10, 1, 1)
    assert cover(before, np.random.default_rng(0)) is before


def test_templates_are_stretched_and_never_covered():
    crops = [target(16, 16, 32, 32) for _ in range(60)]
    covered = CropChanges(cover=1.0)(crops, 30, np.random.default_rng(0))
    same = [np.array_equal(a.picture, b.picture) for a, b in zip(crops, covered, strict=True)]
    assert all(same[:30])
    assert sum(same[30:]) < 15  # a patch may be white itself
    stretched = CropChanges(stretch=0.3)(crops, 30, np.random.default_rng(0))
    assert len({float(crop.box[2] / crop.box[3]) for crop in stretched}) == 60


def test_no_changes_draw_no_random_numbers():
    crops, rng = [target(16, 16, 32, 32)], np.random.default_rng(0)
    assert CropChanges()(crops, 1, rng) is crops
    assert rng.random() == np.random.default_rng(0).random()
