"""The GOT-10k reader: its results, and the files that other data may lack."""

import shutil

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.readers import read_got10k


@pytest.fixture
def copied(got10k, tmp_path):
    shutil.copytree(got10k, tmp_path / "got10k")
    return tmp_path / "got10k"


def test_boxes_labels_and_pictures(got10k):
    train = read_got10k(got10k, "train")
    assert [s.name for s in train] == [f"GOT-10k_Train_{i:06d}" for i in (1, 2, 3)]
    first = train[0]
    lines = (first.folder / "groundtruth.txt").read_text().split()
    assert first.boxes[3].tolist() == [float(v) for v in lines[3].split(",")]
    assert first.image(0).shape == (72, 96, 3)
    assert first.size == (96, 72)
    assert (first.visible == (first.cover > 0) & (np.loadtxt(first.folder / "absence.label") == 0)).all()


def test_absent_and_uncovered_frames_are_not_visible(copied):
    folder = copied / "train" / "GOT-10k_Train_000001"
    (folder / "absence.label").write_text("1\n" + "0\n" * 19)
    (folder / "cover.label").write_text("8\n0\n" + "8\n" * 18)
    assert read_got10k(copied, "train")[0].visible_frames.tolist() == list(range(2, 20))


def test_labels_are_optional(copied):
    for label in copied.rglob("*.label"):
        label.unlink()
    sequence = read_got10k(copied, "train")[0]
    assert sequence.cover is None
    assert sequence.visible.all()


@pytest.mark.parametrize(("label", "line"), [("cover", "9"), ("cover", "264"), ("absence", "2")])
def test_labels_out_of_range_are_refused(copied, label, line):
    path = copied / "train" / "GOT-10k_Train_000001" / f"{label}.label"
    path.write_text(f"{line}\n" + "0\n" * 19)
    with pytest.raises(DataError, match=rf"{label}\.label must hold whole numbers from 0"):
        read_got10k(copied, "train")


def test_a_subset_by_indices(copied, tmp_path):
    (tmp_path / "split.txt").write_text("2\n0\n")
    names = [s.name for s in read_got10k(copied, "train", tmp_path / "split.txt")]
    assert names == ["GOT-10k_Train_000003", "GOT-10k_Train_000001"]


@pytest.mark.parametrize("text", ["3\n", "-1\n", "0.5\n", ""])
def test_a_subset_of_anything_else_is_refused(copied, tmp_path, text):
    (tmp_path / "split.txt").write_text(text)
    with pytest.raises(DataError, match="indices from 0 to 2"):
        read_got10k(copied, "train", tmp_path / "split.txt")


@pytest.mark.parametrize("text", ["1,2,3\n" * 20, "1,2,3,x\n" * 20, "1,2,3,nan\n" * 20])
def test_damaged_annotations_are_named(copied, text):
    path = copied / "val" / "GOT-10k_Val_000001" / "groundtruth.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=r"GOT-10k_Val_000001/groundtruth\.txt must hold 4"):
        read_got10k(copied, "val")


def test_other_delimiters_and_line_ends(copied):
    path = copied / "val" / "GOT-10k_Val_000001" / "groundtruth.txt"
    before = read_got10k(copied, "val")[0].boxes
    path.write_bytes(path.read_text().replace(",", "\t").replace("\n", "\r\n").encode())
    assert (read_got10k(copied, "val")[0].boxes == before).all()


def test_a_missing_frame_is_found(copied):
    (copied / "val" / "GOT-10k_Val_000001" / "00000004.jpg").unlink()
    with pytest.raises(DataError, match="5 frames and 6 annotated boxes"):
        read_got10k(copied, "val")
