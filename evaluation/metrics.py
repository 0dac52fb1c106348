"""Metrics, each named with its protocol."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GOT10K = "GOT-10k"


@dataclass(frozen=True)
class Track:
    """What a tracker said about one sequence, beside what is true.

    Attributes:
        predicted, truth: xywh in pixels, (n, 4).
        cover: visible eighths of the object, (n,); None if all frames count.
        size: (width, height) of the picture.
    """

    predicted: np.ndarray
    truth: np.ndarray
    cover: np.ndarray | None
    size: tuple[int, int]


def overlaps(a: np.ndarray, b: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """IoU of paired xywh boxes (n, 4) after clipping them to the picture, as the got10k toolkit does.

    A box that sticks out at the left or the top is shifted by the clipping, not cropped: this is the protocol.
    """
    a, b = _clip(a, size), _clip(b, size)
    corner = np.maximum(a[:, :2], b[:, :2])
    far = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    intersection = (far - corner).clip(0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - intersection
    return (intersection / (union + np.finfo(float).eps)).clip(0, 1)


def got10k_overlaps(track: Track) -> np.ndarray:
    """The overlaps that count: all frames but the first in which the object is not fully covered.

    Raises:
        ValueError: not one predicted box a frame; like the got10k toolkit, the protocol neither cuts nor pads.
    """
    if track.predicted.shape != track.truth.shape:
        raise ValueError(
            f"{len(track.predicted)} predicted boxes for {len(track.truth)} annotated ones; "
            "a result needs a box for every frame, the first one included"
        )
    values = overlaps(track.predicted[1:], track.truth[1:], track.size)
    return values if track.cover is None else values[track.cover[1:] > 0]


def got10k_report(tracks: Sequence[Track]) -> dict[str, float | int | str]:
    """AO, SR0.5 and SR0.75 of the GOT-10k protocol: pooled over all frames of all sequences, in [0, 1]."""
    values = np.concatenate([got10k_overlaps(t) for t in tracks])
    return {
        "protocol": GOT10K,
        "AO": float(values.mean()),
        "SR0.5": float((values > 0.5).mean()),
        "SR0.75": float((values > 0.75).mean()),
        "sequences": len(tracks),
        "frames": len(values),
    }


def _clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    corner = np.clip(boxes[:, :2], 0, size)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, np.asarray(size) - corner)], 1)
