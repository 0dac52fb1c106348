"""Localisation of the target in a score map: its position, and a flag for distractors and lost targets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

Point = tuple[float, float]  # (row, column)


class Flag(IntEnum):
    """Result of the localisation in one frame."""

    NORMAL = 0
    HARD_NEGATIVE = 1  # found, with a distractor to learn from
    UNCERTAIN = 2  # perhaps found; nothing is learned
    NOT_FOUND = 3


NORMAL, HARD_NEGATIVE, UNCERTAIN, NOT_FOUND = Flag


@dataclass(frozen=True)
class Thresholds:
    """Thresholds on a score map.

    Attributes:
        not_found: score below which the highest peak is no target.
        distractor: share of the highest score above which a second peak may be the target, too.
        hard_negative: share of the highest score above which a second peak that is also above `not_found` is a hard
            negative.
        neighbourhood: side of the area that belongs to a peak, over the target's side.
        displacement: distance from the last position beyond which a peak is far, in half sides of the map.
    """

    not_found: float = 0.25
    distractor: float = 0.8
    hard_negative: float = 0.5
    neighbourhood: float = 2.2
    displacement: float = 0.8


class Localisation(NamedTuple):
    """Result of `localise`.

    Attributes:
        displacement: position of the target, in cells from the map's centre.
        score: the highest score.
        flag: whether the target was found, and whether there are distractors.
    """

    displacement: Point
    score: float
    flag: Flag


def localise(scores: np.ndarray, target: Point, previous: Point, settings: Thresholds) -> Localisation:
    """Finds the target in a score map, and looks for distractors.

    If two peaks are similar and only one of them lies near the last position, this peak is the target. A map of NaN has
    no target.

    Args:
        scores: (F, F).
        target: the target's height and width in cells.
        previous: the target's last position, in cells from the map's centre.
        settings: thresholds.
    """
    rest = np.array(scores, np.float32)  # a copy
    middle = tuple((n - 1) / 2 for n in rest.shape)

    def highest() -> tuple[tuple[int, int], float, Point]:
        cell = divmod(int(rest.argmax()), rest.shape[1])
        return cell, float(rest[cell]), (cell[0] - middle[0], cell[1] - middle[1])

    cell, score, place = highest()
    if not score >= settings.not_found:
        return Localisation(place, score, NOT_FOUND)
    around = []
    for at, length, n in zip(cell, target, rest.shape, strict=True):
        reach = settings.neighbourhood * length / 2
        around.append(slice(max(round(at - reach), 0), min(round(at + reach + 1), n)))
    rest[tuple(around)] = 0
    _, second, other = highest()
    if second > settings.distractor * score:
        limit = settings.displacement * math.sqrt(rest.size) / 2
        distance, others = math.dist(place, previous), math.dist(other, previous)
        if distance < limit < others:
            return Localisation(place, score, HARD_NEGATIVE)
        if others < limit < distance:
            return Localisation(other, score, HARD_NEGATIVE)
        return Localisation(place, score, UNCERTAIN)
    hard = second > settings.hard_negative * score and second > settings.not_found
    return Localisation(place, score, HARD_NEGATIVE if hard else NORMAL)


def keep_inside(position: Point, size: Point, picture: Sequence[float], ratio: float = 0.2) -> Point:
    """Returns the nearest position at which a share of the target's sides lies in the picture.

    All arguments have the same units and the same order, (row, column) or (x, y). The original counts positions from
    the centre of the first pixel, but edges from the edge of the first pixel. So a position that this function limits
    is half a pixel smaller than in the original.

    Args:
        position: centre of the target.
        size: sides of the target.
        picture: edges of the picture: the two low ones, then the two high ones.
        ratio: share of the target's sides.
    """
    first, second = (
        min(max(at, low - (0.5 - ratio) * extent), high + (0.5 - ratio) * extent)
        for at, extent, low, high in zip(position, size, picture[:2], picture[2:], strict=True)
    )
    return first, second
