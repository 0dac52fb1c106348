"""Which frames make a training sample."""

from collections.abc import Sequence as Indexable
from dataclasses import dataclass

import numpy as np

from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import Selection, SequenceTable

ORDERS = ("causal", "trident")


@dataclass(frozen=True)
class Draw:
    """The frames of one sample, each as its video and its number.

    Attributes:
        templates: where the template crops come from.
        search: where the search regions come from. Only if they do not show the target may a frame be invisible, and
            then the annotated box says nothing.
        present: whether the search regions show the target of the templates.
    """

    templates: list[tuple[Sequence, int]]
    search: list[tuple[Sequence, int]]
    present: bool


@dataclass(frozen=True)
class FrameSampler:
    """Draws the frames of a sample from one video, and for negatives the search frames from where the target is not.

    All frames of a sample from a still picture are that picture (COCO); the limits below are those of videos.

    Attributes:
        order: "causal", PyTracking's and OSTrack's: a template, search frames after it, and further templates before
            it, all visible. "trident", STARK's (`trident_pro`): the first template and the search frame are any visible
            ones; further templates lie near the search frame, on the side towards the first, where the target may be
            invisible.
        negatives: share of samples whose search region does not show the target, in [0, 1). It shows an invisible
            frame of the same video or, where there is none, a visible frame of another video (STARK, stage 2).
        max_gap: in frames. "causal": largest distance from the first template; it grows by 5 until visible frames are
            found.
            "trident": largest distance of further templates from the search frame.
        min_frames: sequences that are shorter are not used.
        min_visible: neither are those with fewer visible frames; in any case it takes more than two for each crop.

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

    def usable(self, sequences: SequenceTable, templates: int, searches: int = 1) -> Selection:
        """The sequences that are long enough for samples with this many templates and search regions.

        Raises:
            ValueError: none is, negatives lack another video, or the order cannot draw so many search regions.
        """
        self._check(searches)
        crops = 2 * (templates + searches)
        least, needed = (1, 1) if sequences.still else (self.min_frames, max(self.min_visible, crops + 1))
        rows = np.flatnonzero((sequences.lengths >= least) & (sequences.visible_counts() >= needed))
        if not rows.size:
            why = f" (these crops need more than {crops})" if needed > self.min_visible else ""
            raise ValueError(
                f"none of {len(sequences)} sequences has {least} frames of which {needed} "
                f"are visible{why}; lower datamodule.sampler.min_frames or min_visible, or use longer sequences"
            )
        usable = Selection(sequences, rows)
        if self.negatives and len(usable) == 1:
            raise ValueError(
                f"negatives={self.negatives} need another video, and only {usable[0].name} of {len(sequences)} is "
                "usable; add sequences or set tracker.recipe.negatives=0"
            )
        return usable

    def draw(self, sequences: Indexable[Sequence], rng: np.random.Generator, templates: int, searches: int = 1) -> Draw:
        """The frames of one sample.

        Args:
            sequences: usable ones, drawn from uniformly.
            rng: of all that is drawn.
            templates, searches: how many.

        Raises:
            ValueError: the order cannot draw so many search regions.
        """
        self._check(searches)
        chosen = int(rng.integers(len(sequences)))
        sequence = sequences[chosen]
        if sequence.still:
            frames = [0] * (templates + searches)
        elif self.order == "causal":
            frames = self._causal(sequence, rng, templates, searches)
        else:
            frames = self._trident(sequence, rng, templates)
        places = [(sequence, frame) for frame in frames]
        if not self.negatives or rng.random() >= self.negatives:
            return Draw(places[:templates], places[templates:], present=True)
        without = np.flatnonzero(~sequence.visible)
        if not without.size:
            sequence = sequences[(chosen + int(rng.integers(1, len(sequences)))) % len(sequences)]
            without = sequence.visible_frames
        absent = [(sequence, int(frame)) for frame in rng.choice(without, searches)]
        return Draw(places[:templates], absent, present=False)

    def _check(self, searches: int) -> None:
        if self.order == "trident" and searches != 1:
            raise ValueError(
                f"order=trident draws one search region, the tracker looks at {searches}; "
                "set tracker.recipe.sampling=causal or tracker.search.count=1"
            )

    def _causal(self, sequence: Sequence, rng: np.random.Generator, templates: int, searches: int) -> list[int]:
        frames = sequence.visible_frames
        first = int(rng.integers(templates > 1, len(frames) - 1))
        base, gap = frames[first], self.max_gap
        while frames[first + 1] > base + gap or (templates > 1 and frames[first - 1] < base - gap):
            gap += 5
        start, end = np.searchsorted(frames, base - gap), np.searchsorted(frames, base + gap, side="right")
        earlier = rng.integers(start, first, templates - 1) if templates > 1 else []
        return [int(frames[i]) for i in (first, *earlier, *rng.integers(first + 1, end, searches))]

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
