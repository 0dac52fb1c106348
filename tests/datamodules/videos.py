"""Sequences that were never on a disk, with what `FrameSampler.usable` asks a table for."""

import numpy as np

from datamodules.sequences.sequence import Sequence


class Videos(list[Sequence]):
    """Stands in for a `SequenceTable`."""

    still = False

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(s) for s in self])

    def visible_counts(self) -> np.ndarray:
        return np.array([len(s.visible_frames) for s in self])
