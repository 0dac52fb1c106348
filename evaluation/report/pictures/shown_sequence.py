"""A sequence with the boxes of several trackers, as a contact sheet and as a video."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.sequences.sequence import Sequence as Video
from evaluation.files import atomic_write, write_bytes
from evaluation.report.pictures.drawing import TRUTH, DrawnBox, Stroke, draw_boxes, stack, strip, stroke_of
from evaluation.report.pictures.frame_region import FrameRegion, region_around
from evaluation.report.pictures.jpeg import jpeg
from evaluation.report.pictures.movie import Movie
from evaluation.tracking.metrics.geometry import overlaps

COLUMNS, CELL = 4, 420  # pictures in a row of a sheet, and their width in pixels
SMALLEST, LARGEST = 640, 960  # width of a video in pixels; frames in between keep their size
FPS, QUALITY = 25, 90  # of videos, and of JPEGs


@dataclass(frozen=True)
class ShownSequence:
    """A sequence and what trackers found in it.

    Attributes:
        video: the sequence. Frames without annotation are shown without an annotated box and without overlaps.
        tracks: boxes of each tracker by name, xywh in pixels, (n, 4) each.
        note: a line below the name of the sequence, e.g. why it was chosen; "" for none.
    """

    video: Video
    tracks: Mapping[str, np.ndarray]
    note: str = ""

    def sheet(self, count: int) -> np.ndarray:
        """Returns a contact sheet, RGB (H, W, 3) uint8, with up to `count` frames from the first to the last one.

        Each picture is the part of the frame that holds all boxes.
        """
        frames = np.unique(
            np.linspace(0, len(self.video) - 1, min(count, len(self.video))).round().astype(int)
        ).tolist()
        cells = []
        for frame in frames:
            image, boxes = self.video.image(frame), self._boxes(frame)
            region = region_around(np.array([box.xywh for box in boxes]), image.shape[1::-1])
            caption = strip(self._caption(frame), CELL)
            cells.append(np.concatenate([draw_boxes(image, boxes, region, CELL), caption]))
        sheet = stack(cells, min(COLUMNS, len(cells)))
        return np.concatenate([self._head(sheet.shape[1]), sheet])

    def write_sheet(self, path: Path, count: int) -> None:
        """Writes the contact sheet as JPEG, atomically; see `sheet`."""
        write_bytes(path, jpeg(self.sheet(count), QUALITY))

    def write_video(self, path: Path) -> None:
        """Writes all frames, whole, as MP4, atomically."""
        with atomic_write(path) as unfinished, Movie(unfinished) as movie:
            for number, picture in enumerate(self._pictures()):
                movie.write(picture, number / FPS)

    def _pictures(self) -> Iterator[np.ndarray]:
        """Yields the frames of the video."""
        head = None
        for frame, image in enumerate(self.video.images()):
            whole = FrameRegion(0, 0, image.shape[1], image.shape[0])
            width = 2 * round(np.clip(whole.width, SMALLEST, LARGEST) / 2)
            head = self._head(width) if head is None else head
            picture = draw_boxes(image, self._boxes(frame), whole, width)
            yield np.concatenate([head, picture, strip(self._caption(frame), width)])

    def _head(self, width: int) -> np.ndarray:
        title = f"{self.video.name}, {len(self.video):,} frames"
        lines = [strip([(None, title)], width, strong=True)]
        lines += [strip([(None, self.note)], width)] if self.note else []
        means = {name: self._mean_overlap(name) for name in self.tracks}
        items: list[tuple[Stroke | None, str]] = [(TRUTH, "annotation")]
        items += [(self._strokes[name], f"{name}{_number(mean, ', mean overlap ')}") for name, mean in means.items()]
        return np.concatenate([*lines, strip(items, width)])

    def _caption(self, frame: int) -> list[tuple[Stroke | None, str]]:
        """Returns the number of the frame, and the overlap of each tracker where the frame is annotated."""
        items: list[tuple[Stroke | None, str]] = [(None, f"frame {frame + 1}")]
        if self._shows_truth(frame):
            items += [(self._strokes[name], _number(values[frame])) for name, values in self._overlaps.items()]
        elif frame < len(self.video.boxes):
            items.append((None, "the object is absent"))
        return items

    def _boxes(self, frame: int) -> list[DrawnBox]:
        boxes = [DrawnBox(track[frame], self._strokes[name]) for name, track in self.tracks.items()]
        return ([DrawnBox(self.video.boxes[frame], TRUTH)] if self._shows_truth(frame) else []) + boxes

    def _shows_truth(self, frame: int) -> bool:
        return frame < len(self.video.boxes) and bool(self.video.visible[frame])

    def _mean_overlap(self, name: str) -> float:
        """Returns the mean overlap over the visible frames but the first; NaN without such frames."""
        frames = self.video.visible_frames[self.video.visible_frames > 0]
        return float(self._overlaps[name][frames].mean()) if len(frames) else float("nan")

    @cached_property
    def _overlaps(self) -> dict[str, np.ndarray]:
        annotated = len(self.video.boxes)
        return {name: overlaps(track[:annotated], self.video.boxes) for name, track in self.tracks.items()}

    @cached_property
    def _strokes(self) -> dict[str, Stroke]:
        return {name: stroke_of(number) for number, name in enumerate(self.tracks)}


def _number(value: float, before: str = "") -> str:
    return "" if np.isnan(value) else f"{before}{value:.2f}"
