"""Where the target is, and whether the scores can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

Place = tuple[float, float]  # (row, column)


class Flag(IntEnum):
    """What the tracker makes of a frame."""

    NORMAL = 0
    HARD_NEGATIVE = 1  # found, and besides it something to learn from
    UNCERTAIN = 2  # found, perhaps; nothing is learnt
    NOT_FOUND = 3


NORMAL, HARD_NEGATIVE, UNCERTAIN, NOT_FOUND = Flag


@dataclass(frozen=True)
class Thresholds:
    """When a score map says what.

    Attributes:
        not_found: a highest score below it is no target.
        distractor: a second peak above this share of the highest may be the target, too.
        hard_negative: one above this share, and above `not_found`, is learnt from.
        neighbourhood: side of the area that belongs to a peak, over the target's.
        displacement: a peak is far from the last position beyond this share of half the map's side.
    """

    not_found: float = 0.25
    distractor: float = 0.8
    hard_negative: float = 0.5
    neighbourhood: float = 2.2
    displacement: float = 0.8


class Found(NamedTuple):
    """Where the target was found: cells from the map's centre, the highest score, and what to make of it."""

    displacement: Place
    score: float
    flag: Flag


def localise(scores: Tensor, target: Place, previous: Place, settings: Thresholds) -> Found:
    """Finds the target in a score map, and looks for others like it.

    Args:
        scores: (F, F).
        target: the target's height and width in cells.
        previous: its last position in cells from the map's centre.
        settings: when the map says what.

    Returns:
        Of two equal peaks the one that only the last position speaks for. A map of NaN finds nothing.
    """
    rest = scores.detach().float().cpu().numpy().copy()  # the only wait for the device
    middle = tuple((n - 1) / 2 for n in rest.shape)

    def highest() -> tuple[tuple[int, int], float, Place]:
        cell = divmod(int(rest.argmax()), rest.shape[1])
        return cell, float(rest[cell]), (cell[0] - middle[0], cell[1] - middle[1])

    cell, score, place = highest()
    if not score >= settings.not_found:
        return Found(place, score, NOT_FOUND)
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
            return Found(place, score, HARD_NEGATIVE)
        if others < limit < distance:
            return Found(other, score, HARD_NEGATIVE)
        return Found(place, score, UNCERTAIN)
    hard = second > settings.hard_negative * score and second > settings.not_found
    return Found(place, score, HARD_NEGATIVE if hard else NORMAL)


def keep_inside(position: Place, size: Place, picture: Sequence[float], ratio: float = 0.2) -> Place:
    """The nearest position at which this share of a target's sides still lies in the picture.

    All in the same units, and all (row, column) or all (x, y). The original counts positions from the middle of the
    first pixel, but edges from the edge of it: where this limits a position, its are half a pixel larger.

    Args:
        position: of the target's centre.
        size: of the target.
        picture: its edges, the two low ones and the two high ones.
        ratio: the share.
    """
    first, second = (
        min(max(at, low - (0.5 - ratio) * extent), high + (0.5 - ratio) * extent)
        for at, extent, low, high in zip(position, size, picture[:2], picture[2:], strict=True)
    )
    return first, second
