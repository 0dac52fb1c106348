"""The objects that one tracker follows in one stream."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trackers.online import Box, Lockstep
from trackers.presence import TRACKED


@dataclass(frozen=True)
class Found:
    """What a tracker says of an object in a frame.

    Attributes:
        box: xywh in pixels.
        score: in [0, 1]; None in the first frame, where the box was given.
        presence: probability that the box shows the object, in [0, 1].
        state: "tracked", "uncertain" or "lost".
    """

    box: Box
    score: float | None
    presence: float = 1.0
    state: str = TRACKED


class FollowedObjects:
    """Follows objects from frame to frame. A tracker with lockstep finds all of them in one forward pass.

    Args:
        name: of the tracker.
        loop: its online loop.
        image: first frame, RGB (H, W, 3) uint8.
        boxes: of the objects in it, xywh in pixels.

    Attributes:
        found: of each object, in the last frame.

    Raises:
        TrackerError: a box has no area, or lies outside of the image.
    """

    def __init__(self, name: str, loop: Lockstep, image: np.ndarray, boxes: Sequence[Box]):
        self.name, self._loop = name, loop
        self._targets = [loop.begin(image, box) for box in boxes]
        self.found = [Found(target.box, None) for target in self._targets]
        self._steps, self._seconds = 0, 0.0

    def advance(self, image: np.ndarray) -> None:
        """Finds the objects in the next frame.

        Raises:
            TrackerError: the tracker finds a box or a score that is not finite.
        """
        start = time.perf_counter()
        answers = self._loop.advance(self._targets, [image] * len(self._targets))
        seconds = time.perf_counter() - start
        self.found = [
            Found(box, score, target.presence, target.state)
            for (box, score), target in zip(answers, self._targets, strict=True)
        ]
        self._steps += 1
        self._seconds += seconds if self._steps > 1 else 0  # the first step also prepares what later ones use

    @property
    def fps(self) -> float | None:
        """Frames per second of the tracker with all objects, without its first step; None before its second one."""
        return (self._steps - 1) / self._seconds if self._seconds else None
