"""The open-loop pair metric: how well a tracker finds a target that it is led to. For ranking recipes.

AO depends on chance, as one target that is lost early moves it. Here every search starts near the truth, and a few
hundred pairs tell trainings apart that AO cannot. It also says what AO hides: whether sizes are measured, or repeated.
"""

from collections.abc import Iterable

import numpy as np
import torch

from datamodules.sequences.sequence import Sequence
from evaluation.tracking.metrics.measures import centers, distances, overlaps
from trackers.base import Tracker

PAIRS = 24
ASIDE, SCALE, CLOSE = 0.5, 0.15, 1 / 8
PROTOCOL = {
    "template": "of the first frame; nothing is updated, no box depends on an earlier one",
    "searches": f"up to {PAIRS} frames a sequence, evenly spaced; crops around the true box, moved by up to {ASIDE} of "
    f"its width and height, its side multiplied by exp({SCALE} N(0, 1))",
    "IoU, IoU0.5": "mean overlap, and the share of overlaps above 0.5",
    "centre": "share of centres closer to the true one than an eighth of the crop's side",
    "size_kept": "slope of log(size found / true size) over log(size asked with / true size): 0 if sizes are measured, "
    "1 if they are repeated",
    "size_bias": "mean of log(size found / true size)",
}


@torch.inference_mode()
def open_loop(tracker: Tracker, sequences: Iterable[Sequence], seed: int = 0) -> dict[str, float | int]:
    """What a tracker finds near the truth, as `PROTOCOL` says.

    Args:
        tracker: in evaluation mode, on its device.
        sequences: annotated ones. Frames that do not show the target are left out.
        seed: of where the crops lie.

    Returns:
        The numbers that `PROTOCOL` names, all of them over pairs, and "pairs", how many there are.

    Raises:
        ValueError: no sequence has a second frame that shows its target.
    """
    found, true, asked, sides = [], [], [], []
    for number, sequence in enumerate(sequences):
        rng = np.random.default_rng([seed, number])
        state = tracker.start(tracker.crop(sequence.image(0), tuple(sequence.boxes[0]), tracker.template)[0])
        for frame in _spread(sequence.visible_frames[sequence.visible_frames > 0]):
            box = sequence.boxes[frame]
            near = _moved(box, rng)
            crop, window = tracker.crop(sequence.image(frame), near, tracker.search)
            cx, cy, w, h = window.absolute(tracker.step(state, crop)[0])
            found.append((cx - w / 2, cy - h / 2, w, h))
            true.append(box)
            asked.append(near)
            sides.append(window.side)
    if not found:
        raise ValueError("no sequence shows its target in a frame after the first; try another benchmark")
    found, true, asked = np.array(found), np.array(true), np.array(asked)
    overlap = overlaps(found, true)
    close = distances(centers(found), centers(true)) < CLOSE * np.array(sides)
    size, given = (np.log(np.maximum(b[:, 2:], 1e-3) / true[:, 2:]).mean(1) for b in (found, asked))
    slope = np.polyfit(given, size, 1)[0] if len(size) > 1 else np.nan
    numbers = {"IoU": overlap, "IoU0.5": overlap > 0.5, "centre": close, "size_kept": slope, "size_bias": size}
    return {name: float(np.mean(value)) for name, value in numbers.items()} | {"pairs": len(found)}


def _spread(frames: np.ndarray) -> np.ndarray:
    """Up to `PAIRS` of them, evenly spaced."""
    chosen = np.linspace(0, len(frames) - 1, min(PAIRS, len(frames)))
    return frames[chosen.round().astype(int)]


def _moved(box: np.ndarray, rng: np.random.Generator) -> tuple[float, ...]:
    """Another box near one (xywh)."""
    size = box[2:] * np.exp(SCALE * rng.standard_normal())
    centre = box[:2] + box[2:] / 2 + ASIDE * rng.uniform(-1, 1, 2) * box[2:]
    return (*(centre - size / 2), *size)
