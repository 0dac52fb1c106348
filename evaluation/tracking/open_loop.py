"""The open-loop pair metric: how well a tracker finds a target inside its search region. It ranks training recipes.

AO depends on chance, because one target that is lost early changes it a lot. Here every search region lies near the
annotated box, so a few hundred pairs of template and search region separate trainings that AO cannot. The metric
also shows whether the tracker measures the size of the target or repeats the size that it was given. AO hides this.
"""

from collections.abc import Iterable

import numpy as np

from datamodules.sequences.sequence import Sequence
from evaluation.errors import UserError
from evaluation.tracking.metrics.geometry import centers, distances, overlaps
from trackers.online import Lockstep, check_answer
from trackers.rules import Box

PAIRS = 24
SHIFT, SCALE, CLOSE = 0.5, 0.15, 1 / 8
PROTOCOL = {
    "template": "from the first frame; nothing is updated, and no box depends on an earlier box",
    "searches": f"up to {PAIRS} frames of each sequence, evenly spaced; crops around the true box, moved by up to "
    f"{SHIFT} of its width and height, its side multiplied by exp({SCALE} N(0, 1))",
    "IoU, IoU0.5": "mean overlap, and the share of overlaps above 0.5",
    "centre": "share of centres whose distance to the true centre is below an eighth of the crop's side",
    "size_kept": "slope of log(found size / true size) over log(given size / true size): 0 if the tracker measures "
    "sizes, 1 if it repeats the given ones",
    "size_bias": "mean of log(found size / true size)",
}


def open_loop(loop: Lockstep, sequences: Iterable[Sequence], seed: int = 0) -> dict[str, float | int]:
    """Scores a tracker on search regions near the annotated boxes, by the rules in `PROTOCOL`.

    Args:
        loop: the online loop with the tracker. Only its rules and its runtime are used.
        sequences: annotated sequences. Frames that do not show the target are left out.
        seed: seed of the random positions of the crops.

    Returns:
        The scores that `PROTOCOL` names, over all pairs, and "pairs", the number of pairs.

    Raises:
        UserError: no sequence shows its target in a frame after the first, or the tracker finds a box or a score that
            is not finite.
    """
    rules, runtime = loop.rules, loop.runtime
    found, true, given, sides = [], [], [], []
    for number, sequence in enumerate(sequences):
        rng = np.random.default_rng([seed, number])
        template, _ = rules.crop(sequence.image(0), tuple(sequence.boxes[0]), rules.template)
        state = rules.start(runtime, template)
        for frame in _evenly_spaced(sequence.visible_frames[sequence.visible_frames > 0]):
            box = sequence.boxes[frame]
            near = _jittered(box, rng)
            crop, window = rules.crop(sequence.image(frame), near, rules.search)
            answer = rules.step(runtime, state, crop)
            check_answer(answer, f"{sequence.name}, frame {frame + 1}")
            cx, cy, w, h = window.absolute(answer.box)
            found.append((cx - w / 2, cy - h / 2, w, h))
            true.append(box)
            given.append(near)
            sides.append(window.side)
    if not found:
        raise UserError("no sequence shows its target in a frame after the first; choose another benchmark=...")
    found, true, given = np.array(found), np.array(true), np.array(given)
    overlap = overlaps(found, true)
    close = distances(centers(found), centers(true)) < CLOSE * np.array(sides)
    size, given_size = (np.log(np.maximum(b[:, 2:], 1e-3) / true[:, 2:]).mean(1) for b in (found, given))
    slope = np.polyfit(given_size, size, 1)[0] if len(size) > 1 else np.nan
    numbers = {"IoU": overlap, "IoU0.5": overlap > 0.5, "centre": close, "size_kept": slope, "size_bias": size}
    return {name: float(np.mean(value)) for name, value in numbers.items()} | {"pairs": len(found)}


def _evenly_spaced(frames: np.ndarray) -> np.ndarray:
    """Returns up to `PAIRS` of the frame numbers, evenly spaced."""
    chosen = np.linspace(0, len(frames) - 1, min(PAIRS, len(frames)))
    return frames[chosen.round().astype(int)]


def _jittered(box: np.ndarray, rng: np.random.Generator) -> Box:
    """Returns a box (xywh) of random size and position near `box`."""
    size = box[2:] * np.exp(SCALE * rng.standard_normal())
    centre = box[:2] + box[2:] / 2 + SHIFT * rng.uniform(-1, 1, 2) * box[2:]
    (x, y), (w, h) = centre - size / 2, size
    return x, y, w, h
