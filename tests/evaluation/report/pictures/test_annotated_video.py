"""Frames with what trackers find in them, one panel for each tracker."""

import numpy as np
import pytest

from evaluation.export.video.followed_objects import Found
from evaluation.report.pictures.annotated_video import AnnotatedVideo, Panel, annotated_frame
from evaluation.report.pictures.drawing import COLOURS
from evaluation.report.pictures.panels import CANVAS, GAP, Panels

FRAME = np.full((100, 200, 3), 90, np.uint8)
BOXES = [Found((20, 30, 60, 40), 0.5), Found((120, 10, 40, 80), None)]


def colours_in(picture):
    return {i for i, colour in enumerate(COLOURS) if (np.abs(picture.astype(int) - colour).max(2) < 3).any()}


@pytest.mark.parametrize("size", [(320, 180), (1920, 1080), (1080, 1920), (3840, 2160), (5000, 20), (20, 5000)])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_panels_fit_into_the_picture_and_keep_the_frame_if_they_can(size, count):
    panels = Panels.of(count, size)
    rows = -(-count // panels.columns)
    width = panels.columns * (panels.width + GAP) - GAP
    height = rows * (panels.width * size[1] / size[0] + GAP) - GAP
    longest, shortest = CANVAS
    room = (shortest, longest) if count == 1 and size[0] < size[1] else CANVAS
    assert width <= room[0]
    assert height <= room[1] + 5 * size[1] / size[0]
    if count == 1 and size in ((1920, 1080), (1080, 1920)):
        assert panels.width == size[0]


@pytest.mark.parametrize(
    ("size", "count", "columns"),
    [((1920, 1080), 2, 2), ((1920, 1080), 3, 2), ((1440, 1080), 3, 3), ((1440, 1080), 4, 2), ((1080, 1920), 4, 4)],
)
def test_panels_stand_side_by_side_in_full_rows(size, count, columns):
    assert Panels.of(count, size).columns == columns


def test_trackers_have_colours_and_so_have_objects():
    of_one = [Panel(name, BOXES[:1], 30.0) for name in ("a", "b")]
    shown = annotated_frame(FRAME, "walk", of_one)
    left, right = shown[:, : shown.shape[1] // 2], shown[:, shown.shape[1] // 2 :]
    assert (colours_in(left), colours_in(right)) == ({0}, {1})
    of_two = annotated_frame(FRAME, "walk", [Panel(name, BOXES, None) for name in ("a", "b")])
    assert of_two.shape == shown.shape, "a picture has the same size from the first frame on"
    assert colours_in(of_two[:, : shown.shape[1] // 2]) == {0, 1}
    assert (FRAME == 90).all(), "the frame itself stays as it is"


def test_a_box_in_a_large_frame_is_shrunk_with_it():
    frame = np.full((2000, 4000, 3), 90, np.uint8)
    shown = annotated_frame(frame, "walk", [Panel("a", [Found((1000, 500, 2000, 1000), 0.5)], None)])
    height = shown.shape[1] // 2
    ys, xs = np.nonzero(np.abs(shown[-height - 30 : -60].astype(int) - COLOURS[0]).max(2) < 3)
    np.testing.assert_allclose((xs.min(), xs.max()), (shown.shape[1] / 4, shown.shape[1] * 3 / 4), atol=5)
    assert ys.max() - ys.min() == pytest.approx(height / 2, abs=8)


def test_the_state_is_told_and_the_box_of_a_lost_object_is_faint():
    states = [(0.9, "tracked"), (0.5, "uncertain"), (0.1, "lost")]
    tracked, uncertain, lost = (
        annotated_frame(FRAME, "walk", [Panel("a", [Found((20, 30, 60, 40), 0.5, *state)], 30.0)]) for state in states
    )
    assert tracked.shape == uncertain.shape == lost.shape, "a caption needs the same lines whatever the state is"
    changed = [np.abs(shown.astype(int) - tracked).sum() > 0 for shown in (tracked, uncertain, lost)]
    assert changed == [False, True, True]
    box = slice(24, -24)  # without title and caption, which show the colour, too
    assert (colours_in(tracked[box]), colours_in(lost[box])) == ({0}, set())


def test_a_fault_of_the_encoder_reaches_the_loop(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    video = AnnotatedVideo(tmp_path / "a.mp4", "walk")
    monkeypatch.setattr(video._movie, "write", fail)

    def write_all():
        with video:
            for number in range(1, 20):
                video.write(FRAME, number, number / 25, [Panel("a", BOXES, None)])

    with pytest.raises(OSError, match="No space left"):
        write_all()
