"""Training samples: the crops' geometry, what happens to them, and the same ones for any number of workers."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation, LabelledCrop, jitter
from datamodules.dataset import TrackingDataset
from datamodules.loading import EpochSampler
from datamodules.module import TrackingDataModule
from datamodules.readers import read_got10k
from datamodules.sampling import FrameSampler, central_box
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from datamodules.sources import Mixture, Source
from tests.conftest import CONF
from tests.datamodules.videos import Videos
from trackers.crops import CropSpec
from trackers.dimp.crop_spec import DiMPCropSpec
from trackers.dimp.crops import training_window

PLAIN = Augmentation(gray=0, flip=0, flip_each=0, brightness=0)
LIVELY = Augmentation(gray=0.5, flip=0.5, flip_each=0.5, brightness=0.2)
MIRROR = Augmentation(gray=0, flip=1, flip_each=0, brightness=0)
CAUSAL = FrameSampler("causal", 0.0, max_gap=200, min_frames=20, min_visible=5)
TRIDENT = FrameSampler("trident", 0.5, max_gap=3, min_frames=20, min_visible=5)
ONE, TWO = CropSpec(32, 2.0), CropSpec(32, 2.0, count=2)
SEARCH, STILL = CropSpec(48, 3.0, 2.0, 0.4), CropSpec(48, 3.0)


class White(Sequence):
    """Video of white frames, in whose crops black is padding."""

    def image(self, i):
        return np.full((72, 96, 3), 255, np.uint8)


def dataset(sequences, sampler=CAUSAL, template=ONE, search=SEARCH, augmentation=LIVELY, seed=0):
    mixture = Mixture({"one": sequences}, {"one": 1}, sampler, template.count, search.count)
    return TrackingDataset(mixture, sampler, template, search, augmentation, seed=seed, train=True)


def whole(box=(0.0, 0.0, 0.5, 0.5), size=8, value=100):
    return LabelledCrop(np.full((size, size, 3), value, np.uint8), np.array(box), np.zeros((2, size), bool))


@pytest.mark.parametrize(("sampler", "template"), [(CAUSAL, ONE), (TRIDENT, TWO)], ids=["causal", "trident"])
def test_samples_do_not_depend_on_workers_and_follow_the_seed(got10k, sampler, template):
    def take(workers, seed=0):
        data = dataset(read_got10k(got10k, "train"), sampler, template, seed=seed)
        return list(DataLoader(data, 2, sampler=EpochSampler(6, lambda: 1), num_workers=workers))

    alone, spread, other = take(0), take(2), take(0, seed=1)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(alone, spread, strict=True) for key in a)
    assert not any(torch.equal(a["search"], b["search"]) for a, b in zip(alone, other, strict=True))


def test_batches_have_the_promised_shapes(got10k):
    sequences = read_got10k(got10k, "train")
    for template in (ONE, TWO):
        sample = dataset(sequences, TRIDENT, template)[0]
        for role, count, size in (("template", template.count, 32), ("search", 1, 48)):
            assert sample[role].shape == (count, 3, size, size)
            assert sample[role].dtype == torch.uint8
            assert sample[f"{role}_box"].shape == (count, 4)
            assert sample[f"{role}_box"].dtype == torch.float32
            assert sample[f"{role}_padding"].shape == (count, 2, size)
            assert sample[f"{role}_padding"].dtype == torch.bool
        assert sample["present"].shape == (1,)
        assert sample["present"].dtype == torch.float32
        assert sample["unreadable"] == 0


def test_a_sample_shows_the_frames_that_were_drawn(got10k):
    """All possible crops are computed, so a sample's crops identify their frames."""
    first, second, _ = read_got10k(got10k, "train")
    hidden = [8, 9, 10, 11]
    first = replace(first, absent=np.isin(np.arange(20), hidden), cover=None)
    second = replace(second, absent=np.zeros(20, bool), cover=None)

    def known(video, spec, frames, fake=False):
        for i in frames:
            image = video.image(i)
            box = central_box(image.shape) if fake else video.boxes[i]
            window = spec.training_window(image.shape, box)
            place = torch.from_numpy(window.boxes.relative(box).astype(np.float32))
            yield spec.crop(image, window).tobytes(), (video.name, fake, not video.visible[i], place)

    templates = dict((*known(first, TWO, range(20)), *known(second, TWO, range(20))))
    shown = sorted(set(range(20)) - set(hidden))
    searches = dict((*known(first, STILL, shown), *known(second, STILL, range(20)), *known(first, STILL, hidden, True)))
    kinds, invisible = set(), False
    data = dataset(Videos([first, second]), TRIDENT, TWO, STILL, PLAIN)
    for sample in (data[i] for i in range(80)):
        old, new = (templates[t.permute(1, 2, 0).numpy().tobytes()] for t in sample["template"])
        video, fake, _, place = searches[sample["search"][0].permute(1, 2, 0).numpy().tobytes()]
        assert old[0] == new[0]
        assert torch.equal(sample["template_box"], torch.stack([old[3], new[3]]))
        assert torch.equal(sample["search_box"][0], place)
        assert not old[2]
        invisible |= new[2]
        kinds.add((old[0] == first.name, video == first.name, fake, sample["present"].item()))
    assert kinds == {
        (True, True, False, 1.0),
        (False, False, False, 1.0),
        (True, True, True, 0.0),  # an invisible frame of the same video
        (False, True, False, 0.0),  # another video, as this one has none
    }
    assert invisible


def test_a_stand_in_is_an_eighth_of_the_picture_in_its_middle():
    assert central_box((80, 160, 3)).tolist() == [70, 35, 20, 10]


def test_padding_is_where_the_crops_show_no_picture():
    boxes = np.array([[2.0, 3.0, 16.0, 12.0], [78.0, 30.0, 14.0, 10.0]] * 10)
    video = White("s", Path(), tuple(map(str, range(20))), boxes, np.zeros(20, bool))
    data = dataset(Videos([video, video]), replace(TRIDENT, max_gap=9), replace(TWO, factor=4.0))
    masks = []
    for sample in (data[i] for i in range(40)):
        for role in ("template", "search"):
            for picture, (rows, columns) in zip(sample[role], sample[f"{role}_padding"], strict=True):
                mask = rows[:, None] | columns[None]
                assert (picture[0][~mask] >= 204).all()  # white, but for brightness
                mixed = mask & (picture[0] > 0)
                assert mixed.sum() <= 2 * 4 * len(rows)  # at most a line or so at each edge
                masks.append(columns)
    first, last = (np.mean([mask[end] for mask in masks]) for end in (0, -1))
    assert 0.2 < first < 0.8
    assert 0.2 < last < 0.8
    assert not all(torch.equal(*s["template_padding"]) for s in (data[i] for i in range(40)))


def test_mirroring_mirrors_the_padding():
    spec, box, mirrored = CropSpec(32, 3.0), (4.0, 50.0, 16.0, 16.0), (76.0, 50.0, 16.0, 16.0)
    original, opposite = (spec.training_window((72, 96), around).padding for around in (box, mirrored))
    seen = LabelledCrop(np.zeros((32, 32, 3), np.uint8), np.zeros(4), original)
    (flipped,) = MIRROR([seen], np.random.default_rng(0), train=False)
    assert (flipped.padding == opposite).all()
    assert (flipped.padding != seen.padding).any()


@pytest.mark.parametrize("kind", [CropSpec, DiMPCropSpec])
def test_the_window_of_a_crop_is_computed_once(got10k, monkeypatch, kind):
    calls = []

    def counted(function):
        return lambda *args, **options: calls.append(function) or function(*args, **options)

    monkeypatch.setattr(CropSpec, "_window", counted(CropSpec._window))
    monkeypatch.setattr("trackers.dimp.crop_spec.training_window", counted(training_window))
    sequences = read_got10k(got10k, "train")
    dataset(sequences, CAUSAL, kind(32, 2.0), kind(48, 3.0))[0]
    assert len(calls) == 2  # a template and a search region
    kind(48, 3.0).tracking_crop(sequences[0].image(0), sequences[0].boxes[0])
    assert len(calls) == 3


def test_the_box_of_a_sample_is_where_the_object_is():
    """Crops of a black picture with a white object show the object inside of the sample's box."""
    spec, rng = CropSpec(96, 4.0, 2.0, 0.3), np.random.default_rng(0)
    for box in np.array([[30.0, 20.0, 16.0, 12.0], [50.0, 40.0, 10.0, 20.0]]):
        image = np.zeros((72, 96, 3), np.uint8)
        x, y, w, h = box.astype(int)
        image[y : y + h, x : x + w] = 255
        window = spec.training_window(image.shape, jitter(box, spec, rng))
        picture = spec.crop(image, window)
        bx, by, bw, bh = window.boxes.relative(box) * 96
        rows, columns = np.nonzero(picture[..., 0] > 127)
        assert abs(columns.min() - bx) < 2
        assert abs(columns.max() + 1 - bx - bw) < 2
        assert abs(rows.min() - by) < 2
        assert abs(rows.max() + 1 - by - bh) < 2


def test_mirroring_mirrors_the_box():
    seen = whole((0.1, 0.2, 0.2, 0.2), size=10, value=0)
    seen.picture[2:4, 1:3] = 255
    (flipped,) = MIRROR([seen], np.random.default_rng(0), train=True)
    assert flipped.box.tolist() == pytest.approx([0.7, 0.2, 0.2, 0.2])
    assert flipped.picture[2:4, 7:9].min() == 255


def test_changes_of_all_crops_are_the_same_for_all():
    crops = [
        LabelledCrop(np.dstack([np.eye(8, dtype=np.uint8) * v for v in (90, 0, 0)]), np.zeros(4), whole().padding)
    ] * 3
    together = Augmentation(gray=0.5, flip=0.5, flip_each=0, brightness=0)
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(40):
        seen = together(crops, rng, train=True)
        assert all((c.picture == seen[0].picture).all() for c in seen)
        kinds.add(seen[0].picture.tobytes())
    assert len(kinds) == 4


def test_changes_of_single_crops_are_for_training_only():
    strong = Augmentation(gray=0, flip=0, flip_each=1, brightness=0.5)
    (seen,) = strong([whole()], np.random.default_rng(1), train=False)
    assert (seen.picture == whole().picture).all()
    assert (seen.box == whole().box).all()
    (seen,) = strong([whole()], np.random.default_rng(1), train=True)
    assert (seen.picture != whole().picture).all()
    assert seen.box[0] == 0.5


def module(got10k, train="train", val="val", val_samples=0, weight=1, **crops):
    given = {"template": TWO, "search": SEARCH, "sampler": TRIDENT, "augmentation": PLAIN} | crops
    sources = {
        role: {"got10k": Source(lambda split=split: read_got10k(got10k, split), weight)}
        for role, split in (("train", train), ("val", val))
    }
    sizes = {"batch_size": 2, "samples_per_epoch": 2, "val_samples": val_samples, "workers": 0, "seed": 0}
    return TrackingDataModule(**sources, **given, **sizes)


def test_an_order_that_cannot_fill_the_crops_is_found_before_training(got10k):
    module(got10k).check()
    two = CropSpec(48, 3.0, count=2)
    module(got10k, search=two, sampler=CAUSAL).check()
    with pytest.raises(ValueError, match="one search region"):
        module(got10k, search=two).check()


def test_nothing_is_validated_on_that_is_trained_on(got10k):
    module(got10k, val_samples=2, sampler=replace(TRIDENT, min_frames=6, min_visible=0), template=ONE).check()
    module(got10k, val="train").check()  # nothing is validated
    with pytest.raises(ValueError, match=r"3 sequences are in both .*val\.got10k and .*train\.got10k"):
        module(got10k, val="train", val_samples=2).check()


@pytest.mark.parametrize("weight", [0, -1])
def test_weights_that_make_no_sense_are_refused(got10k, weight):
    with pytest.raises(ValueError, match=rf"'got10k': {weight}.*datamodule\.train\.got10k\.weight=1"):
        module(got10k, weight=weight)


def test_a_mixture_is_drawn_from_by_weight_whatever_its_sources_hold(got10k):
    videos = read_got10k(got10k, "train")
    few, one = Videos([videos[0]]), Videos([videos[1]])
    mixture = Mixture({"a": videos, "b": few, "c": one}, {"a": 1, "b": 3, "c": 0}, CAUSAL, 1, 1)
    rng = np.random.default_rng(0)
    shares = np.bincount([mixture.draw(rng) for _ in range(4000)], minlength=3) / 4000
    assert shares == pytest.approx([0.25, 0.75, 0], abs=0.03)


def test_one_source_draws_no_numbers(got10k):
    """Otherwise seeds of earlier studies would give other samples."""
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    dataset(read_got10k(got10k, "train")).sequences.draw(rng)
    assert rng.bit_generator.state == before


def test_a_source_without_usable_sequences_is_named(got10k):
    with pytest.raises(ValueError, match=r"b: none of 2 sequences has 20 frames"):
        Mixture({"a": read_got10k(got10k, "train"), "b": read_got10k(got10k, "val")}, {"a": 1, "b": 1}, CAUSAL, 1, 1)


def test_both_crops_of_a_still_picture_come_from_it(got10k):
    video = read_got10k(got10k, "train")[0]
    still = replace(
        video, frames=video.frames[:1], boxes=video.boxes[:1], absent=video.absent[:1], cover=None, still=True
    )
    pictures = SequenceTable.from_sequences([still, replace(still, name="other")])
    for sampler, template in ((CAUSAL, ONE), (TRIDENT, TWO)):
        data = dataset(pictures, sampler, template)
        assert {s for i in range(40) for s in data[i]["present"].tolist()} == (
            {1.0} if sampler is CAUSAL else {0.0, 1.0}
        )
        draw = data.sampler.draw(data.sequences.sources[0], np.random.default_rng(0), template.count)
        assert {frame for _, frame in (*draw.templates, *draw.search)} == {0}


def test_folders_of_frames_can_be_trained_on(got10k, tmp_path):
    shutil.copytree(got10k, tmp_path / "folder")
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        given = [f"paths.data={tmp_path}", f"paths.cache={tmp_path}", "datamodule.batch_size=2", "datamodule.workers=0"]
        data = instantiate(compose("train", ["datamodule=folder", *given]).datamodule)
    data.check()
    assert next(iter(data.train_dataloader()))["search"].shape == (2, 1, 3, 96, 96)


@pytest.mark.parametrize("outside", [(-200.0, 30, 10, 10), (40, 300, 10, 10), (-200, -300, 10, 10)])
def test_a_window_beside_the_picture_is_drawn_again(outside, monkeypatch):
    """Beside the picture only the columns are padding, above it only the rows; no such crop shows anything."""
    box, drawn = np.array([40.0, 30, 10, 10]), [np.array(outside), np.array(outside), np.array([41.0, 32, 10, 10])]
    monkeypatch.setattr("datamodules.dataset.jitter", lambda *_: drawn.pop(0))
    frame = SimpleNamespace(shape=(72, 96, 3), request_window=lambda pixels, reduction: None)
    sequence = SimpleNamespace(boxes=[box], visible=[True], folder=Path("video"), frames=["0.jpg"])
    data = dataset(
        Videos([White("white", Path("white"), tuple("0123456789" * 2), np.ones((20, 4)), np.zeros(20, bool))])
    )
    request = data._request(frame, sequence, 0, "search", np.random.default_rng(0))
    assert drawn == []
    np.testing.assert_allclose(
        request.window.boxes.relative(np.array([41.0, 32, 10, 10]))[:2], [1 / 3, 1 / 3], atol=0.02
    )
    assert request.box is box
