"""Training boxes outside of their pictures: counted and named in the check, and never trained on."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.augmentation import Augmentation
from datamodules.dataset import TrackingDataset
from datamodules.module import TrackingDataModule
from datamodules.readers import read_got10k
from datamodules.sampling import FrameSampler
from datamodules.sequences.outside import without_outside_boxes
from datamodules.sequences.table import SequenceTable
from datamodules.sources import Source
from trackers.crops import CropSpec
from trackers.dimp.crop_spec import DiMPCropSpec

NAN, INF = math.nan, math.inf
# The pictures have 96 x 72 pixels.
OUTSIDE = [
    (96, 10, 20, 20),
    (10, 72, 20, 20),
    (-20, 10, 20, 20),
    (10, -30, 20, 20),
    (500, 500, 30, 30),
    (-1e9, 0, 5, 5),
    (0, 0, 1e9, 1e9),
    (40, 30, 1e9, 1),
    (-5e8, -5e8, 1e9, 1e9),
    (NAN, 10, 20, 20),
    (10, NAN, 20, 20),
    (10, 10, NAN, 20),
    (10, 10, 20, NAN),
    (10, 10, INF, 20),
    (-INF, 10, 20, 20),
]
EMPTY = [(10, 10, 0, 20), (10, 10, -5, 20), (0, 0, 0, 0), (500, 500, -1, -1)]  # the target is absent: no word of it
INSIDE = [(95.5, 71.5, 20, 20), (-19.5, -19.5, 20, 20), (-50, -50, 300, 300), (0, 0, 0.5, 0.5)]


def table_of(got10k: Path, box: tuple[float, ...], resolution: tuple[int, int] | None) -> SequenceTable:
    """Returns the small world with this box in frames 4 and 11 of its second video."""
    videos = []
    for number, video in enumerate(read_got10k(got10k, "train")):
        boxes = video.boxes.copy()
        if number == 1:
            boxes[[3, 10]] = box
        videos.append(replace(video, boxes=boxes, absent=np.zeros(20, bool), cover=None, resolution=resolution))
    return SequenceTable.from_sequences(videos, got10k)


@pytest.mark.parametrize("resolution", [(96, 72), None], ids=["known", "read"])
@pytest.mark.parametrize("box", OUTSIDE, ids=str)
def test_boxes_outside_are_counted_named_and_invisible(got10k, box, resolution):
    given = table_of(got10k, box, resolution)
    table, note = without_outside_boxes(given)
    assert note.startswith("2 frames of 1 sequences are not used")
    assert f"{given[1].folder}, frame 4" in note
    assert np.flatnonzero(~table[1].visible).tolist() == [3, 10]
    assert table[0].visible.all()
    assert np.array_equal(given[1].boxes[3], box, equal_nan=True)  # the data set in memory is as it was


@pytest.mark.parametrize("box", [*EMPTY, *INSIDE], ids=str)
def test_other_boxes_stay(got10k, box):
    given = table_of(got10k, box, None)
    table, note = without_outside_boxes(given)
    assert (table, note) == (given, "")


def test_a_frame_of_another_size_is_read(got10k, tmp_path):
    folder = tmp_path / "video"
    folder.mkdir()
    for i in range(20):
        cv2.imwrite(str(folder / f"{i:04d}.jpg"), np.zeros((72, 200 if i == 10 else 96, 3), np.uint8))
    video = replace(read_got10k(got10k, "train")[0], folder=folder, resolution=None, cover=None)
    boxes = np.tile([150.0, 10, 20, 20], (20, 1))
    boxes[:10] = boxes[12:] = 10, 10, 20, 20
    video = replace(video, frames=tuple(f"{i:04d}.jpg" for i in range(20)), boxes=boxes, absent=np.zeros(20, bool))
    table, note = without_outside_boxes(SequenceTable.from_sequences([video]))
    assert note.startswith("1 frames of 1 sequences")
    assert np.flatnonzero(~table[0].visible).tolist() == [11]


CROPS = {
    "ostrack": (CropSpec(32, 2.0, 0.1, 0.05), CropSpec(48, 3.0, 2.0, 0.3)),
    "dimp": (DiMPCropSpec(48, 3.0, 1.0, 0.15, inside=1.5), DiMPCropSpec(48, 3.0, 1.6, 0.4, inside=1.5)),
}


def module(table: SequenceTable, crops: str, order: str) -> TrackingDataModule:
    template, search = CROPS[crops]
    return TrackingDataModule(
        train={"mine": Source(lambda: table, 1.0)},
        val={},
        template=replace(template, count=2 if order == "trident" else 1),
        search=search,
        sampler=FrameSampler(order, 0.5, max_gap=200, min_frames=20, min_visible=5),
        augmentation=Augmentation(0, 0, 0, 0),
        batch_size=2,
        samples_per_epoch=4,
        val_samples=0,
        workers=0,
        seed=0,
    )


@pytest.mark.parametrize("order", ["causal", "trident"])
@pytest.mark.parametrize("crops", CROPS)
def test_the_check_warns_and_no_sample_shows_them(got10k, crops, order, caplog):
    data = module(table_of(got10k, (500, 500, 30, 30), None), crops, order)
    data.check()
    assert caplog.text.count("datamodule.train.mine: 2 frames of 1 sequences are not used") == 1
    caplog.clear()
    samples = data.train_dataloader().dataset
    for sample in (samples[i] for i in range(40)):
        assert sample["unreadable"] == 0
        for role in ("template", "search"):
            assert np.isfinite(sample[f"{role}_box"].numpy()).all()
            assert (sample[f"{role}_box"].abs() < 5).all()
    assert not caplog.records


@pytest.mark.parametrize("box", [(500, 500, 30, 30), (0, 0, 1e9, 1e9)], ids=str)
@pytest.mark.parametrize("crops", CROPS)
def test_what_the_check_cannot_know_is_drawn_again(got10k, crops, box, caplog):
    """Data sets of many videos without sizes are not read before a training."""
    data = module(table_of(got10k, box, None), crops, "causal")
    data._tables_read["train"] = {"mine": table_of(got10k, box, None)}
    samples: TrackingDataset = data.train_dataloader().dataset
    with caplog.at_level(logging.WARNING):
        drawn_again = sum(int(samples[i]["unreadable"]) for i in range(40))
    assert drawn_again == caplog.text.count("its box lies outside of the picture or is far too large") > 0
