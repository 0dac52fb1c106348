"""Chooses the frames of a training sample."""

from collections.abc import Sequence as Indexable
from dataclasses import dataclass

import numpy as np

from datamodules.errors import DataError
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import Selection, SequenceTable

ORDERS = ("causal", "trident")


@dataclass(frozen=True)
class SampleFrames:
    """The frames of one sample, each as a video and a frame number.

    Attributes:
        templates: frames of the template crops.
        search: frames of the search regions. The box of a frame without a visible target is meaningless; such frames
            occur only if `present` is false.
        present: whether the search regions show the target of the templates.
    """

    templates: list[tuple[Sequence, int]]
    search: list[tuple[Sequence, int]]
    present: bool


@dataclass(frozen=True)
class FrameSampler:
    """Draws the frames of a sample from one video; the search frames of a negative sample do not show the target.

    All frames of a sample from a still picture (COCO) are that picture. The limits below hold for videos.

    Attributes:
        order: "causal", as in PyTracking and OSTrack: a template, search frames after it and further templates before
            it; the target is visible in all of them. "trident", as in STARK (`trident_pro`): the first template and the
            search frame are any frames with a visible target. Further templates lie near the search frame, in the
            direction of the first template; the target may be invisible in them.
        negatives: fraction of samples whose search region does not show the target, in [0, 1). It comes from a frame of
            the same video without a visible target, or else from another video (STARK, stage 2).
        max_gap: in frames. "causal": largest distance from the first template; it grows by 5 until there are visible
            frames. "trident": largest distance of further templates from the search frame.
        min_frames: shorter sequences are not used.
        min_visible: sequences with fewer visible frames are not used. More than two for each crop are always needed.

    Raises:
        DataError: the order is unknown, or negatives is out of range.
    """

    order: str
    negatives: float
    max_gap: int
    min_frames: int
    min_visible: int

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise DataError(f"order={self.order} is not known; set tracker.recipe.sampling=causal or trident")
        if not 0 <= self.negatives < 1:
            raise DataError(f"negatives={self.negatives} must be in [0, 1), e.g. tracker.recipe.negatives=0.5")

    def select_usable(self, sequences: SequenceTable, templates: int, searches: int = 1) -> Selection:
        """Returns the sequences that are long enough for samples with this many templates and search regions.

        Raises:
            DataError: no sequence is usable, negatives need another video, or the order cannot draw so many search
                regions.
        """
        self._check_search_count(searches)
        crops = 2 * (templates + searches)
        frames, visible = (1, 1) if sequences.still else (self.min_frames, max(self.min_visible, crops + 1))
        rows = np.flatnonzero((sequences.lengths >= frames) & (sequences.visible_counts() >= visible))
        if not rows.size:
            reason = f" (these crops need more than {crops})" if visible > self.min_visible else ""
            raise DataError(
                f"none of {len(sequences)} sequences has {frames} frames of which {visible} "
                f"are visible{reason}; lower datamodule.sampler.min_frames or min_visible, or use longer sequences"
            )
        usable = Selection(sequences, rows)
        if self.negatives and len(usable) == 1:
            raise DataError(
                f"negatives={self.negatives} need another video, and only {usable[0].name} of {len(sequences)} is "
                "usable; add sequences or set tracker.recipe.negatives=0"
            )
        return usable

    def draw(
        self,
        sequences: Selection | Indexable[Sequence],
        rng: np.random.Generator,
        templates: int,
        searches: int = 1,
    ) -> SampleFrames:
        """Draws the frames of one sample.

        Args:
            sequences: usable sequences; one is drawn uniformly.
            rng: random generator.
            templates, searches: number of template crops and of search regions.

        Raises:
            DataError: the order cannot draw so many search regions.
        """
        self._check_search_count(searches)
        chosen = int(rng.integers(len(sequences)))
        sequence = sequences[chosen]
        if sequence.still:
            numbers = [0] * (templates + searches)
        elif self.order == "causal":
            numbers = self._causal(sequence, rng, templates, searches)
        else:
            numbers = self._trident(sequence, rng, templates)
        frames = [(sequence, number) for number in numbers]
        if not self.negatives or rng.random() >= self.negatives:
            return SampleFrames(frames[:templates], frames[templates:], present=True)
        candidates = np.flatnonzero(~sequence.visible)
        if not candidates.size:
            sequence = sequences[(chosen + int(rng.integers(1, len(sequences)))) % len(sequences)]
            candidates = sequence.visible_frames
        search = [(sequence, int(number)) for number in rng.choice(candidates, searches)]
        return SampleFrames(frames[:templates], search, present=False)

    def _check_search_count(self, searches: int) -> None:
        if self.order == "trident" and searches != 1:
            raise DataError(
                f"order=trident draws one search region, the tracker needs {searches}; "
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
        # The target may be invisible, but a crop needs a box: data sets write empty boxes if the target is gone.
        near = near[(sequence.boxes[near, 2:] > 0).all(1)]
        return [first, *rng.choice(near, templates - 1).tolist(), search]


def central_box(shape: tuple[int, ...]) -> np.ndarray:
    """Returns the central box of a picture (H, W, ...), xywh in pixels. It stands for an absent target, as in STARK."""
    height, width = shape[:2]
    return np.array([7 * width, 7 * height, 2 * width, 2 * height]) / 16
