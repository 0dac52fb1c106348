"""Pictures of sequences: boxes where they are, lines that differ without colour, and frames without annotation."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.sequences.sequence import NumberedFrames, Sequence
from evaluation.report.pictures.drawing import DrawnBox, draw_boxes, stroke_of
from evaluation.report.pictures.frame_region import FrameRegion, region_around
from evaluation.report.pictures.shown_sequence import CELL, ShownSequence

WHOLE = FrameRegion(0, 0, 200, 100)
GREY = np.full((100, 200, 3), 90, np.uint8)


def test_a_box_is_drawn_where_it_is_at_any_scale():
    for width in (100, 200, 400):
        drawn = draw_boxes(GREY, [DrawnBox(np.array([40.0, 20, 80, 50]), stroke_of(0))], WHOLE, width)
        ys, xs = np.nonzero((drawn != 90).any(2))
        scale = width / 200
        found = np.array([xs.min(), ys.min(), xs.max(), ys.max()])
        np.testing.assert_allclose(found, np.array([40, 20, 120, 70]) * scale, atol=3)
        assert drawn.shape == (width // 2, width, 3)
    assert (GREY == 90).all(), "the frame itself stays as it is"


def test_lines_of_trackers_differ_without_their_colours():
    strokes = [stroke_of(number) for number in range(30)]
    assert len(set(strokes)) == 30
    assert len({stroke.dashes for stroke in strokes[:5]}) == 5


@pytest.mark.parametrize("box", [(-1e9, -1e9, 2e9, 2e9), (1e7, 5, 3, 3), (5, 5, 0, 0), (50, 50, 1e-9, 40)])
def test_boxes_of_any_size_are_drawn_in_no_time(box):
    drawn = draw_boxes(GREY, [DrawnBox(np.array(box), stroke_of(n)) for n in range(5)], WHOLE, 200)
    assert drawn.shape == GREY.shape
    part = region_around(np.array([box]), (200, 100))
    assert 0 <= part.x <= part.x + part.width <= 200
    assert 0 <= part.y <= part.y + part.height <= 100


class Grey(Sequence):
    def image(self, i):
        return GREY


def video(boxes, absent, frames=5):
    return Grey("walk", Path(), NumberedFrames("", 1, 1, ".jpg", frames), np.array(boxes, float), np.array(absent))


def test_only_annotated_frames_show_an_annotation_and_overlaps():
    track = np.tile([30.0, 20, 40, 40], (5, 1))
    shown = ShownSequence(video([(30, 20, 40, 40)] * 5, [False, False, True, False, False]), {"a": track})
    assert [len(shown._boxes(frame)) for frame in range(5)] == [2, 2, 1, 2, 2]
    assert [text for _, text in shown._caption(1)] == ["frame 2", "1.00"]
    assert [text for _, text in shown._caption(2)] == ["frame 3", "the object is absent"]
    first_only = ShownSequence(video([(30, 20, 40, 40)], [False]), {"a": track, "b": track + 100})
    assert [len(first_only._boxes(frame)) for frame in range(5)] == [3, 2, 2, 2, 2]
    assert [text for _, text in first_only._caption(4)] == ["frame 5"]
    for sequence in (shown, first_only):
        assert sequence.sheet(3).shape[1] >= 3 * CELL
        assert sequence.sheet(99).shape[1] >= 4 * CELL
