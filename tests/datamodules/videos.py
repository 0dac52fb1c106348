"""Sequences without files, for `FrameSampler.select_usable`."""

import numpy as np

from datamodules.sequences.sequence import Sequence


class Videos(list[Sequence]):
    """A list with the properties of a `SequenceTable` that the sampler uses."""

    still = False

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(s) for s in self])

    def visible_counts(self) -> np.ndarray:
        return np.array([len(s.visible_frames) for s in self])
