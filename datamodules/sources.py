"""Sources of training samples: one data set, or several that are mixed by weight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.crop_changes import CropChanges
from datamodules.errors import DataError, DataSettingError, NoDataError
from datamodules.sampling import FrameSampler
from datamodules.sequences.table import Selection, SequenceTable


@dataclass(frozen=True)
class Source:
    """A data set from which samples are drawn.

    Attributes:
        read: returns the sequences of the data set; raises DataError.
        weight: share of the samples relative to the other sources, whatever their sizes; 0 leaves the source out.
        camera, stretch, cover: changes of the crops, see `CropChanges`.
    """

    read: Callable[[], SequenceTable]
    weight: float
    camera: float = 0.0
    stretch: float = 0.0
    cover: float = 0.0

    @property
    def changes(self) -> CropChanges:
        """Changes of the crops."""
        return CropChanges(self.camera, self.stretch, self.cover)


class Mixture:
    """The usable sequences of several sources, from which samples are drawn by weight.

    Args:
        tables: sequences by source.
        weights: weights of the same sources, not all 0.
        sampler: selects the usable sequences.
        templates, searches: number of template crops and of search regions in a sample.
        changes: changes of the crops, by source; none without an entry.

    Attributes:
        sources: usable sequences of each source.
        changes: changes of the crops of the same sources.

    Raises:
        DataError: a source has no usable sequence.
    """

    def __init__(
        self,
        tables: Mapping[str, SequenceTable],
        weights: Mapping[str, float],
        sampler: FrameSampler,
        templates: int,
        searches: int,
        changes: Mapping[str, CropChanges] | None = None,
    ):
        self.sources: list[Selection] = []
        self.changes = [(changes or {}).get(name, CropChanges()) for name in tables]
        for name, table in tables.items():
            try:
                self.sources.append(sampler.select_usable(table, templates, searches))
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
        shares = np.array([weights[name] for name in tables], float)
        self.cumulative_shares = np.cumsum(shares / shares.sum())

    def draw(self, rng: np.random.Generator) -> int:
        """Draws a source and returns its number in `sources`."""
        if len(self.sources) == 1:
            return 0
        return int(np.searchsorted(self.cumulative_shares[:-1], rng.random(), side="right"))


def read_sources(split: str, sources: Mapping[str, Source]) -> dict[str, SequenceTable]:
    """Returns the sequences of all sources with a positive weight.

    Args:
        split: "train" or "val", for messages.
        sources: by name.

    Raises:
        DataError: data sets are missing, incomplete or damaged. The message names every such source, each with the
            override with which the reader uses what is there.
    """
    used = {name: source for name, source in sources.items() if source.weight}
    tables: dict[str, SequenceTable] = {}
    errors: list[DataError] = []
    absent: dict[str, NoDataError] = {}
    for name, source in used.items():
        place = f"datamodule.{split}.{name}"
        try:
            tables[name] = source.read()
        except DataError as error:
            told = error.at(f"{place}.read") if isinstance(error, DataSettingError) else f"{place}: {error}"
            leaves_out = f"; {place}.weight=0 leaves this data set out" if len(used) > 1 else ""
            errors.append(DataError(f"{told}{leaves_out}"))
            if isinstance(error, NoDataError):
                absent[name] = error
    if len(absent) == len(errors) > 1:
        raise DataError(_describe_absent(split, absent)) from errors[0]
    if errors:
        raise DataError("\n".join(map(str, errors))) from errors[0]
    return tables


def _describe_absent(split: str, errors: Mapping[str, NoDataError]) -> str:
    """Returns one message about several data sets of which nothing is there."""
    places = ", ".join(f"{error.data_set} at {error.root}" for error in errors.values())
    folders = " and ".join(dict.fromkeys(error.root.name for error in errors.values()))
    last = list(errors)[-1]
    return (
        f"no data of {len(errors)} data sets: {places}. Set paths.data to the folder that holds {folders}, e.g. "
        f"paths.data=/data, or leave a data set out, e.g. datamodule.{split}.{last}.weight=0"
    )


def check_weights(sources: Mapping[str, Any]) -> None:
    """Raises DataError if a weight is negative or no weight is positive."""
    weights = {name: source.weight for name, source in sources.items()}
    if min(weights.values(), default=0) < 0 or not any(weights.values()):
        raise DataError(
            f"the sources have the weights {weights}; none may be negative and at least one must be positive, "
            "e.g. datamodule.train.got10k.weight=1"
        )


def check_disjoint(train: Mapping[str, SequenceTable], val: Mapping[str, SequenceTable]) -> None:
    """Raises DataError if a sequence is used both for training and for validation."""
    for name, table in val.items():
        for other, trained in train.items():
            both = np.intersect1d(table.columns["name"], trained.columns["name"])
            shared = _locations(table, both) & _locations(trained, both)
            if shared:
                raise DataError(
                    f"{len(shared)} sequences are in both datamodule.val.{name} and datamodule.train.{other}, one is "
                    f"{min(shared)}: validation would be meaningless. Choose another split or subset for one of them"
                )


def _locations(table: SequenceTable, names: np.ndarray) -> set[str]:
    """Returns "folder/name" of each sequence whose name is in `names`."""
    rows = np.flatnonzero(np.isin(table.columns["name"], names))
    return {f"{table.root / table.columns['folder'][i]}/{table.columns['name'][i]}" for i in rows}
