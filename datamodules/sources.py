"""Where training samples come from: one data set, or several that are mixed by weight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from datamodules.sampling import FrameSampler
from datamodules.sequences.annotations import DataError
from datamodules.sequences.table import Selection, SequenceTable


@dataclass(frozen=True)
class Source:
    """A data set that samples are drawn from.

    Attributes:
        read: gives its sequences; raises DataError.
        weight: samples relative to those of the other sources, however many sequences they have; 0 for none.
    """

    read: Callable[[], SequenceTable]
    weight: float


class Mixture:
    """The usable sequences of several sources.

    Args:
        tables: sequences by source.
        weights: of the same sources, not all 0.
        sampler: says which sequences are usable.
        templates, searches: crops of a sample.

    Raises:
        ValueError: a source has no usable sequence.
    """

    def __init__(
        self,
        tables: Mapping[str, SequenceTable],
        weights: Mapping[str, float],
        sampler: FrameSampler,
        templates: int,
        searches: int,
    ):
        self.sources: list[Selection] = []
        for name, table in tables.items():
            try:
                self.sources.append(sampler.usable(table, templates, searches))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        shares = np.array([weights[name] for name in tables], float)
        self.limits = np.cumsum(shares / shares.sum())

    def draw(self, rng: np.random.Generator) -> Selection:
        """The sequences that the next sample comes from."""
        if len(self.sources) == 1:
            return self.sources[0]
        return self.sources[int(np.searchsorted(self.limits[:-1], rng.random(), side="right"))]


def check_weights(sources: Mapping[str, Source]) -> None:
    """Raises ValueError if a weight is negative, or none is positive."""
    weights = {name: source.weight for name, source in sources.items()}
    if min(weights.values(), default=0) < 0 or not any(weights.values()):
        raise ValueError(
            f"the sources of samples have the weights {weights}; none may be negative and one must be positive, "
            "e.g. datamodule.train.got10k.weight=1"
        )


def check_apart(train: Mapping[str, SequenceTable], val: Mapping[str, SequenceTable]) -> None:
    """Raises DataError if a sequence is both trained and validated on."""
    for name, table in val.items():
        for other, trained in train.items():
            both = np.intersect1d(table.columns["name"], trained.columns["name"])
            shared = _places(table, both) & _places(trained, both)
            if shared:
                raise DataError(
                    f"{len(shared)} sequences are in both datamodule.val.{name} and datamodule.train.{other}, one is "
                    f"{min(shared)}: validation would say nothing. Choose another split or subset for one of them"
                )


def _places(table: SequenceTable, names: np.ndarray) -> set[str]:
    """Folders and names of the sequences that have one of these names."""
    rows = np.flatnonzero(np.isin(table.columns["name"], names))
    return {f"{table.root / table.columns['folder'][i]}/{table.columns['name'][i]}" for i in rows}
