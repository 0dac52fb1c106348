"""Which frames make a training pair."""

from dataclasses import dataclass

import numpy as np

from datamodules.sequences import Sequence


@dataclass(frozen=True)
class CausalSampler:
    """OSTrack's sampling: a template frame, and a search frame after it.

    Attributes:
        max_gap: largest distance of the two in frames; it grows by 5 until a visible frame is found.
        min_frames: sequences that are shorter are not used.
        min_visible: neither are those with fewer visible frames.
    """

    max_gap: int
    min_frames: int
    min_visible: int

    def usable(self, sequences: list[Sequence]) -> list[Sequence]:
        """The sequences that are long enough.

        Raises:
            ValueError: none is.
        """
        usable = [s for s in sequences if len(s) >= self.min_frames and len(s.visible_frames) >= self.min_visible]
        if not usable:
            raise ValueError(
                f"none of {len(sequences)} sequences has {self.min_frames} frames of which {self.min_visible} "
                "are visible; lower datamodule.sampler.min_frames or min_visible"
            )
        return usable

    def pair(self, sequence: Sequence, rng: np.random.Generator) -> tuple[int, int]:
        """Template frame and search frame, both visible, the search frame later."""
        frames = sequence.visible_frames
        template = int(rng.integers(len(frames) - 1))
        gap = self.max_gap
        while frames[template + 1] > frames[template] + gap:
            gap += 5
        last = int(np.searchsorted(frames, frames[template] + gap, side="right"))
        return int(frames[template]), int(frames[rng.integers(template + 1, last)])
