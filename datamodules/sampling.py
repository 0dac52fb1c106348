"""Which frames make a training sample."""

from dataclasses import dataclass

import numpy as np

from datamodules.sequences import Sequence

ORDERS = ("causal", "trident")


@dataclass(frozen=True)
class Draw:
    """The frames of one sample, each as its video and its number.

    Attributes:
        templates: where the template crops come from.
        search: where the search region comes from. Only if it does not show the target may its frame be invisible,
            and then the annotated box says nothing.
        present: whether the search region shows the target of the templates.
    """

    templates: list[tuple[Sequence, int]]
    search: tuple[Sequence, int]
    present: bool


@dataclass(frozen=True)
class FrameSampler:
    """Draws the frames of a sample from one video, and for negatives the search frame from where the target is not.

    Attributes:
        order: "causal", OSTrack's: one template, and a search frame after it, both visible. "trident", STARK's
            (`trident_pro`): the first template and the search frame are any visible ones; further templates lie near
            the search frame, on the side towards the first, where the target may be invisible.
        negatives: share of samples whose search region does not show the target, in [0, 1). It shows an invisible
            frame of the same video or, where there is none, a visible frame of another video (STARK, stage 2).
        max_gap: in frames. "causal": largest distance of the two; it grows by 5 until a visible frame is found.
            "trident": largest distance of further templates from the search frame.
        min_frames: sequences that are shorter are not used.
        min_visible: neither are those with fewer visible frames; "trident" needs more than two for each crop.

    Raises:
        ValueError: an unknown order, or negatives out of range.
    """

    order: str
    negatives: float
    max_gap: int
    min_frames: int
    min_visible: int

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order={self.order} is not known; set tracker.recipe.sampling to causal or trident")
        if not 0 <= self.negatives < 1:
            raise ValueError(f"negatives={self.negatives} must be in [0, 1); set tracker.recipe.negatives, e.g. to 0.5")

    def usable(self, sequences: list[Sequence], templates: int) -> list[Sequence]:
        """The sequences that are long enough for samples with this many templates.

        Raises:
            ValueError: none is, negatives lack another video, or the order cannot draw so many templates.
        """
        self._check(templates)
        needed = self.min_visible if self.order == "causal" else max(self.min_visible, 2 * (templates + 1) + 1)
        usable = [s for s in sequences if len(s) >= self.min_frames and len(s.visible_frames) >= needed]
        if not usable:
            why = f" (order=trident needs more than {2 * (templates + 1)})" if needed > self.min_visible else ""
            raise ValueError(
                f"none of {len(sequences)} sequences has {self.min_frames} frames of which {needed} "
                f"are visible{why}; lower datamodule.sampler.min_frames or min_visible, or use longer sequences"
            )
        if self.negatives and len(usable) == 1:
            raise ValueError(
                f"negatives={self.negatives} need another video, and only {usable[0].name} of {len(sequences)} is "
                "usable; add sequences or set tracker.recipe.negatives=0"
            )
        return usable

    def draw(self, sequences: list[Sequence], rng: np.random.Generator, templates: int) -> Draw:
        """The frames of one sample.

        Args:
            sequences: usable ones, drawn from uniformly.
            rng: of all that is drawn.
            templates: how many.

        Raises:
            ValueError: the order cannot draw so many templates.
        """
        self._check(templates)
        chosen = int(rng.integers(len(sequences)))
        sequence = sequences[chosen]
        frames = self._causal(sequence, rng) if self.order == "causal" else self._trident(sequence, rng, templates)
        *first, search = [(sequence, frame) for frame in frames]
        if not self.negatives or rng.random() >= self.negatives:
            return Draw(first, search, present=True)
        without = np.flatnonzero(~sequence.visible)
        if not without.size:
            sequence = sequences[(chosen + int(rng.integers(1, len(sequences)))) % len(sequences)]
            without = sequence.visible_frames
        return Draw(first, (sequence, int(rng.choice(without))), present=False)

    def _check(self, templates: int) -> None:
        if self.order == "causal" and templates != 1:
            raise ValueError(
                f"order=causal draws one template, the tracker looks at {templates}; "
                "set tracker.recipe.sampling=trident or tracker.template.count=1"
            )

    def _causal(self, sequence: Sequence, rng: np.random.Generator) -> list[int]:
        frames = sequence.visible_frames
        template = int(rng.integers(len(frames) - 1))
        gap = self.max_gap
        while frames[template + 1] > frames[template] + gap:
            gap += 5
        last = int(np.searchsorted(frames, frames[template] + gap, side="right"))
        return [int(frames[template]), int(frames[rng.integers(template + 1, last)])]

    def _trident(self, sequence: Sequence, rng: np.random.Generator, templates: int) -> list[int]:
        first, search = rng.choice(sequence.visible_frames, 2).tolist()
        ends = (search, search + self.max_gap) if first >= search else (search - self.max_gap, search)
        near = np.arange(max(0, ends[0]), min(len(sequence), ends[1] + 1))
        # Invisible is allowed, but something must be cut: data sets write boxes of no size where the target is gone.
        near = near[(sequence.boxes[near, 2:] > 0).all(1)]
        return [first, *rng.choice(near, templates - 1).tolist(), search]


def stand_in(shape: tuple[int, ...]) -> np.ndarray:
    """The xywh box in pixels around which a picture (H, W, ...) without target is searched: its middle (STARK)."""
    height, width = shape[:2]
    return np.array([7 * width, 7 * height, 2 * width, 2 * height]) / 16
