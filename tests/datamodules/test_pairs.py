"""Training pairs: the sampling rule, the crops' geometry, and the same samples for any number of workers."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation, jitter
from datamodules.got10k import read_got10k
from datamodules.pairs import EpochSampler, PairDataset
from datamodules.sampling import CausalSampler
from datamodules.sequences import Sequence
from trackers.crops import CropSpec, box_in_crop, crop

PLAIN = Augmentation(gray=0, flip=0, flip_each=0, brightness=0)
LIVELY = Augmentation(gray=0.5, flip=0.5, flip_each=0.5, brightness=0.2)


def dataset(got10k, augmentation=LIVELY, train=True, seed=0, search=None):
    search = search or CropSpec(48, 3.0, 2.0, 0.4)
    sampler = CausalSampler(max_gap=200, min_frames=20, min_visible=5)
    return PairDataset(
        read_got10k(got10k, "train"), sampler, CropSpec(32, 2.0), search, augmentation, seed=seed, train=train
    )


def sequence(visible):
    n = len(visible)
    return Sequence("s", None, tuple(map(str, range(n))), np.ones((n, 4)), np.array(visible, bool))


def test_the_search_frame_follows_the_template_within_the_gap():
    rng, frames = np.random.default_rng(0), sequence([i % 3 == 0 for i in range(60)])
    pairs = [CausalSampler(9, 20, 5).pair(frames, rng) for _ in range(500)]
    gaps = {search - template for template, search in pairs}
    assert gaps == {3, 6, 9}
    assert {t for t, _ in pairs} == set(range(0, 57, 3))


def test_the_gap_grows_until_a_frame_is_visible():
    frames = sequence([True] + [False] * 40 + [True])
    assert CausalSampler(5, 20, 2).pair(frames, np.random.default_rng(0)) == (0, 41)


def test_short_sequences_are_left_out_and_none_left_is_an_error():
    long, short = sequence([True] * 30), sequence([True] * 10)
    assert CausalSampler(9, 20, 5).usable([long, short]) == [long]
    with pytest.raises(ValueError, match="min_frames"):
        CausalSampler(9, 20, 5).usable([short])


def test_samples_do_not_depend_on_workers_and_follow_the_seed(got10k):
    def take(workers, seed=0):
        loader = DataLoader(dataset(got10k, seed=seed), 2, sampler=EpochSampler(6, lambda: 1), num_workers=workers)
        return [batch["search"] for batch in loader]

    alone, spread, other = take(0), take(2), take(0, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(alone, spread, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(alone, other, strict=True))


def test_every_epoch_has_new_samples():
    assert list(EpochSampler(3, lambda: 0)) == [0, 1, 2]
    assert list(EpochSampler(3, lambda: 2)) == [6, 7, 8]


def test_the_box_of_a_sample_is_where_the_object_is(got10k):
    """Crops of a picture that is black but for the object show it inside of the sample's box."""
    data = dataset(got10k, PLAIN, search=CropSpec(96, 4.0, 2.0, 0.3))
    rng = np.random.default_rng(0)
    for box in np.array([[30.0, 20.0, 16.0, 12.0], [50.0, 40.0, 10.0, 20.0]]):
        image = np.zeros((72, 96, 3), np.uint8)
        x, y, w, h = box.astype(int)
        image[y : y + h, x : x + w] = 255
        around = jitter(box, data.specs["search"], rng)
        picture, resize = crop(image, tuple(around), data.specs["search"])
        bx, by, bw, bh = box_in_crop(box, around, resize, 96) * 96
        rows, columns = np.nonzero(picture[..., 0] > 127)
        assert abs(columns.min() - bx) < 2
        assert abs(columns.max() + 1 - bx - bw) < 2
        assert abs(rows.min() - by) < 2
        assert abs(rows.max() + 1 - by - bh) < 2


def test_mirroring_mirrors_the_box():
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[2:4, 1:3] = 255
    always = Augmentation(gray=0, flip=1, flip_each=0, brightness=0)
    (flipped,), (box,) = always([picture], [np.array([0.1, 0.2, 0.2, 0.2])], np.random.default_rng(0), train=True)
    assert box.tolist() == pytest.approx([0.7, 0.2, 0.2, 0.2])
    assert flipped[2:4, 7:9].min() == 255


def test_changes_of_single_crops_are_for_training_only():
    picture = np.full((8, 8, 3), 100, np.uint8)
    strong = Augmentation(gray=0, flip=0, flip_each=1, brightness=0.5)
    box = np.array([0.0, 0.0, 0.5, 0.5])
    (seen,), (where,) = strong([picture], [box], np.random.default_rng(1), train=False)
    assert (seen == picture).all()
    assert (where == box).all()
    (seen,), (where,) = strong([picture], [box], np.random.default_rng(1), train=True)
    assert (seen != picture).all()
    assert where[0] == 0.5


def test_batches_have_the_promised_shapes(got10k):
    sample = dataset(got10k)[0]
    assert sample["template"].shape == (1, 3, 32, 32)
    assert sample["search"].shape == (1, 3, 48, 48)
    assert sample["search"].dtype == torch.uint8
    assert sample["search_box"].shape == sample["template_box"].shape == (1, 4)
    assert sample["unreadable"] == 0
