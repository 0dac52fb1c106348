"""A video of what trackers find in a stream: a panel for each tracker, with the boxes of its objects."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from evaluation.export.video.followed_objects import Found
from evaluation.report.pictures.drawing import DrawnBox, Stroke, draw_boxes, stack, strip, stroke_of
from evaluation.report.pictures.frame_region import FrameRegion
from evaluation.report.pictures.movie import Movie
from evaluation.report.pictures.panels import GAP, Panels
from trackers.presence import LOST, TRACKED

WAITING = 4  # pictures that may wait for the encoder, so that memory stays bounded


@dataclass(frozen=True)
class Panel:
    """What is shown of one tracker in one frame.

    Attributes:
        name: of the tracker.
        found: of each object.
        fps: frames per second of the tracker; None if not known yet.
    """

    name: str
    found: Sequence[Found]
    fps: float | None


class AnnotatedVideo:
    """A video file that is being written. It is drawn and encoded in a thread, while the trackers work on.

    If there is one object, each tracker has a colour. Of several objects, each has a colour, and a number at its box.
    An object that is not tracked has its state at its box, and the box of a lost one is faint.

    Args:
        path: of the MP4 file.
        title: stands above the frames, before the number of the frame.
    """

    def __init__(self, path: Path, title: str):
        self._movie, self._title = Movie(path), title
        self._thread = ThreadPoolExecutor(1, "video")
        self._waiting: deque[Future[None]] = deque()

    def write(self, image: np.ndarray, number: int, time: float, panels: Sequence[Panel]) -> None:
        """Writes a frame.

        Args:
            image: RGB (H, W, 3) uint8; nobody changes it later.
            number: of the frame, from 1.
            time: from which on it is shown, in seconds.
            panels: of the trackers.

        Raises:
            OSError: a frame before could not be written.
        """
        while len(self._waiting) >= WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._write, image, number, time, panels))

    def close(self) -> None:
        """Writes all frames that wait, and closes the file."""
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown()
            self._movie.close()

    def __enter__(self) -> "AnnotatedVideo":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, image: np.ndarray, number: int, time: float, panels: Sequence[Panel]) -> None:
        self._movie.write(annotated_frame(image, f"{self._title}  ·  frame {number}  ·  {time:.1f} s", panels), time)


def annotated_frame(image: np.ndarray, title: str, panels: Sequence[Panel]) -> np.ndarray:
    """Returns the panels of all trackers beside each other below a title, RGB (h, w, 3) uint8.

    Args:
        image: the frame, RGB (H, W, 3) uint8.
        title: one line.
        panels: of the trackers.
    """
    layout = Panels.of(len(panels), (image.shape[1], image.shape[0]))
    scale = min(1.0, layout.width / image.shape[1])
    if scale < 1:  # here once, and not in each panel
        image = cv2.resize(image, (layout.width, max(1, round(image.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    height, width, _ = image.shape
    cells = []
    for place, panel in enumerate(panels):
        several = len(panel.found) > 1
        strokes = [stroke_of(i if several else place) for i in range(len(panel.found))]
        labels = [str(i + 1) if several else "" for i in range(len(panel.found))]
        boxes = [
            DrawnBox(scale * np.array(found.box), stroke, _label(label, found), faint=found.state == LOST)
            for found, stroke, label in zip(panel.found, strokes, labels, strict=True)
        ]
        shown = draw_boxes(image, boxes, FrameRegion(0, 0, width, height), layout.width, layout.zoom)
        caption = strip(_caption(panel, strokes, labels), layout.width, zoom=layout.zoom)
        cells.append(np.concatenate([shown, caption]))
    sheet = stack(cells, layout.columns, GAP) if len(cells) > 1 else cells[0]
    return np.concatenate([strip([(None, title)], sheet.shape[1], zoom=layout.zoom), sheet])


def _label(number: str, found: Found) -> str:
    """Returns the text at a box: the number of the object, and its state unless it is tracked."""
    return " ".join(filter(None, (number, "" if found.state == TRACKED else found.state)))


def _caption(panel: Panel, strokes: Sequence[Stroke], labels: Sequence[str]) -> list[tuple[Stroke | None, str]]:
    """Returns the name of a tracker, the score of each object, and the tracker's speed."""
    speed = (None, f"{f'{panel.fps:.0f}' if panel.fps else '-'} frames/s")  # all captions need the same lines
    scores = ["given" if found.score is None else f"{found.score:.2f}" for found in panel.found]
    if len(panel.found) == 1:
        return [(strokes[0], f"{panel.name}  {scores[0]}"), speed]
    objects = [(stroke, f"{label}: {score}") for stroke, label, score in zip(strokes, labels, scores, strict=True)]
    return [(None, panel.name), *objects, speed]
