"""Presence: whether a tracker knows that its object is there, and that it is not."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.tracking.metrics.geometry import overlaps
from evaluation.tracking.metrics.lost import LOST_OVERLAP
from trackers.presence import LOST, STATES, TRACKED

PROTOCOL = (
    "all frames but the first of each video, pooled; the annotation says which frames show the object. AUC: the chance "
    "that a frame that shows the object has a higher presence than one that does not (area under the ROC curve). "
    f"found_AUC: the same for frames whose box overlaps the object by more than {LOST_OVERLAP}, against all other "
    "frames. false_alarms: share of the frames without the object that are reported as tracked. misses: share of the "
    "frames with the object that are reported as lost"
)


@dataclass(frozen=True)
class PresenceTrack:
    """What a tracker reports about the presence of the object in each frame of a video, beside the annotation.

    Attributes:
        presence: probability that the box shows the object, (n,) in [0, 1].
        state: index in `trackers.presence.STATES`, (n,).
        visible: frames that show the object, (n,) bool.
        found: frames whose box overlaps the visible object, (n,) bool.
    """

    presence: np.ndarray
    state: np.ndarray
    visible: np.ndarray
    found: np.ndarray


def presence_report(tracks: Iterable[PresenceTrack]) -> dict[str, Any] | None:
    """Scores what a tracker reports about the presence of its objects, by `PROTOCOL`.

    Returns:
        "AUC", "found_AUC" (NaN if no box overlaps its object), "false_alarms" and "misses" in [0, 1]; the numbers of
        frames that are "present" and "absent"; "protocol". None if no frame shows the object, or if all of them do:
        then there is nothing to tell apart.
    """
    rows = [(t.presence[1:], t.state[1:], t.visible[1:], t.found[1:]) for t in tracks]
    if not rows:
        return None
    presence, state, visible, found = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    if visible.all() or not visible.any():
        return None
    return {
        "protocol": PROTOCOL,
        "AUC": roc_auc(presence[visible], presence[~visible]),
        "found_AUC": roc_auc(presence[found], presence[~found]),
        "false_alarms": float((state[~visible] == STATES.index(TRACKED)).mean()),
        "misses": float((state[visible] == STATES.index(LOST)).mean()),
        "present": int(visible.sum()),
        "absent": int((~visible).sum()),
    }


def found_mask(predicted: np.ndarray, truth: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Returns the frames whose box overlaps the visible object by more than `LOST_OVERLAP`, (n,) bool.

    Args:
        predicted, truth: boxes, xywh in pixels, (n, 4).
        visible: frames that show the object, (n,) bool.
    """
    return visible & (overlaps(predicted, truth) > LOST_OVERLAP)


def roc_auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Returns the chance that a random positive value is above a random negative one; ties count half.

    Args:
        positive, negative: values, (n,) and (m,).

    Returns:
        NaN if there are no values of one kind.
    """
    if not (len(positive) and len(negative)):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(ordered)))
