"""The fake data sets: each reader finds the synthetic videos in them, and nothing that is not fake is ever replaced."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.fake_data import FakeData
from datamodules.readers import read_coco, read_got10k, read_lasot, read_trackingnet
from tests.conftest import small_set

LASOT = {"lasot_train": ["airplane-2", "bird-1", "bird-4", "cat-2"], "lasot_test": ["airplane-1", "bird-2"]}


@pytest.fixture(scope="module")
def fake(cache, tmp_path_factory) -> FakeData:
    fake = FakeData(str(tmp_path_factory.mktemp("data") / "fake"), str(cache), small_set(), **LASOT)
    fake.write()
    return fake


SPLITS = {  # a reader, the split of the synthetic videos that it finds, and the rounding of its boxes
    "got10k train": (read_got10k, "got10k", {"split": "train"}, "train", 1e-4),
    "got10k val": (read_got10k, "got10k", {"split": "val"}, "val", 1e-4),
    "lasot train": (read_lasot, "lasot", {"split": "train", "names": LASOT["lasot_train"]}, "train", 0.5),
    "lasot test": (read_lasot, "lasot", {"split": "test", "names": LASOT["lasot_test"]}, "val", 0.5),
    "trackingnet train": (read_trackingnet, "trackingnet", {"split": "train"}, "train", 1e-4),
}


@pytest.mark.parametrize("split", SPLITS)
def test_readers_find_the_synthetic_videos(fake, got10k, split):
    read, name, arguments, source, rounding = SPLITS[split]
    videos, found = read_got10k(got10k, source), read(f"{fake.folder}/{name}", **arguments)
    for i, sequence in enumerate(found):
        video = videos[i % len(videos)]  # where a data set has more sequences, videos repeat
        assert np.abs(sequence.boxes - video.boxes).max() <= rounding
        assert (sequence.absent == video.absent).all()
        assert (sequence.image(2) == video.image(2)).all()
        assert sequence.size == video.size
        assert sequence.frames[0] == ("0.jpg" if name == "trackingnet" else "00000001.jpg")
    assert len(found) == {"lasot": len(arguments.get("names", [])), "trackingnet": 12}.get(name, len(videos))


@pytest.mark.parametrize(
    "read", [partial(read_got10k, split="test"), partial(read_trackingnet, split="test")], ids=["got10k", "trackingnet"]
)
def test_test_splits_have_one_box(fake, got10k, read):
    name = "got10k" if read.func is read_got10k else "trackingnet"
    for sequence, video in zip(read(f"{fake.folder}/{name}"), read_got10k(got10k, "val"), strict=True):
        assert (len(sequence), sequence.annotated) == (len(video), False)
        assert np.abs(sequence.boxes - video.boxes[:1]).max() <= 1e-4


@pytest.mark.parametrize("split", ["train2014", "train2017"])
def test_coco_has_the_first_frames(fake, got10k, split):
    for picture, video in zip(read_coco(f"{fake.folder}/coco", split), read_got10k(got10k, "train"), strict=True):
        assert (picture.still, picture.size) == (True, video.size)
        assert (picture.boxes == video.boxes[:1]).all()
        assert (picture.image(0) == video.image(0)).all()


def test_they_are_written_once(cache, tmp_path):
    fake = FakeData(str(tmp_path / "fake"), str(cache), small_set(), **LASOT)
    fake.write()
    before = (tmp_path / "fake").stat().st_ino
    fake.write()
    assert (tmp_path / "fake").stat().st_ino == before
    replace(fake, lasot_test=["cat-3"]).write()
    assert len(read_lasot(tmp_path / "fake" / "lasot", "test", ["cat-3"])) == 1


def test_a_folder_of_other_files_is_left_alone(cache, tmp_path):
    (tmp_path / "got10k").mkdir()
    with pytest.raises(
        DataError, match=r"holds files that are no fake data; name another folder, e.g. fake_data.folder"
    ):
        FakeData(str(tmp_path), str(cache), small_set(), **LASOT).write()
    assert (tmp_path / "got10k").is_dir()
