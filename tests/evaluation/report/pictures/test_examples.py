"""Example frames: the choice of sequences, the drawn boxes, and the reason when there are none."""

import base64

import cv2
import numpy as np
import pytest

from datamodules.readers import read_got10k
from evaluation.report.pictures.examples import examples_of
from tests.evaluation.report.studies import dense, job, with_tracks


@pytest.fixture
def study(tmp_path, got10k):
    results = [dense(), *(job(ratio=ratio) for ratio in (0.9, 0.5, 0.3, 0.1))]
    return with_tracks(results, tmp_path, got10k)


def test_sequences_on_which_children_differ_most_come_first(study, tmp_path, got10k):
    examples = examples_of(study, tmp_path)
    names = [sequence.name for sequence in read_got10k(got10k, "val")]
    assert examples.reason == ""
    assert [example.name for example in examples.sequences] == names[::-1]  # boxes drift on the last one only
    assert [label for _, label in examples.kinds] == [
        "annotation", "parent", "child, ratio 0.9", "child, ratio 0.5", "child, ratio 0.1",
    ]  # fmt: skip


def test_boxes_lie_on_the_part_of_the_picture_that_is_shown(study, tmp_path, got10k):
    example = examples_of(study, tmp_path).sequences[0]
    sequence = next(s for s in read_got10k(got10k, "val") if s.name == example.name)
    (row,) = example.rows
    assert [picture.number for picture in example.pictures] == [3, 4, 6]
    for picture, boxes in zip(example.pictures, row.boxes, strict=True):
        image = cv2.imdecode(np.frombuffer(base64.b64decode(picture.uri.partition(",")[2]), np.uint8), 1)
        assert image.shape[:2] == (picture.height, picture.width)
        whole = sequence.image(picture.number - 1)[..., ::-1]
        part = whole[picture.y : picture.y + picture.height, picture.x : picture.x + picture.width]
        assert np.abs(image.astype(int) - part).mean() < 12
        truth, parent, *children = boxes
        assert truth.xywh == pytest.approx(sequence.boxes[picture.number - 1], abs=0.06)
        assert (truth.overlap, parent.overlap) == pytest.approx((1, 1), abs=1e-3)  # files have 3 decimals
        overlaps = [child.overlap for child in children]
        assert overlaps == sorted(overlaps, reverse=True)
        assert [child.label for child in children] == ["0.9", "0.5", "0.1"]
        assert all(picture.x <= box.x <= picture.x + picture.width for box in boxes)


def test_what_cannot_be_read_is_said(study, tmp_path):
    assert examples_of([dense()], tmp_path).reason == "No job pruned anything."
    track = next((tmp_path / study[2]["folder"] / "boxes" / "synthetic").glob("*[0-9].txt"))
    track.write_text(track.read_text().partition("\n")[2])
    why = examples_of(study, tmp_path).reason
    assert str(track.relative_to(tmp_path)) in why
    assert "frames" in why
    (tmp_path / study[0]["folder"] / "config.yaml").unlink()
    assert "config.yaml" in examples_of(study, tmp_path).reason
