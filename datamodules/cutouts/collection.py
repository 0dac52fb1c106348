"""Chooses the pictures of annotated data sets from which things and backdrops are taken."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from joblib import Parallel, delayed

from datamodules.cutouts.backdrops import crop_backdrop
from datamodules.cutouts.things import cut_thing
from datamodules.errors import DataError
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable

log = logging.getLogger(__name__)

AT_ONCE = 256  # boxes that are tried before the things are counted; things do not depend on the number of processes


@dataclass(frozen=True)
class RealPictures:
    """Annotated data sets from which the pictures of a bank are taken.

    Attributes:
        tables: sequences by name of the source, not empty.
        weights: shares of the same sources.
        place: where the sources stand in the section `datamodule` of a configuration, for messages.
    """

    tables: Mapping[str, SequenceTable]
    weights: Mapping[str, float]
    place: str = "pictures"

    def content(self) -> list:
        """Returns all that things and backdrops depend on as plain data, without paths."""
        return [[self.weights[name], table.content()] for name, table in self.tables.items()]

    def cut_things(self, count: int, side: int, seed: int, pool: Parallel) -> list[tuple[np.ndarray, ...]]:
        """Returns `count` things, see `cut_thing`, from boxes in random order.

        Args:
            count: number of things.
            side: of a thing's picture, pixels.
            seed: seed of all random numbers.
            pool: runs the work.

        Raises:
            DataError: a source has fewer things, or a picture cannot be read.
        """
        things = []
        for source, (name, wanted) in enumerate(self._quotas(count)):
            found, tried = [], 0
            candidates = _draw_frames(self.tables[name], np.random.default_rng([seed, 3, source]))
            while len(found) < wanted and (chunk := list(islice(candidates, AT_ONCE))):
                cut = pool(
                    delayed(cut_thing)(*each, side, np.random.default_rng([seed, 4, source, tried + i]))
                    for i, each in enumerate(chunk)
                )
                found += [thing for thing in cut if thing is not None]
                tried += len(chunk)
            if len(found) < wanted:
                percent = 100 * len(found) // wanted  # rounded down, so that the things suffice
                lower = "set real_objects of the bank to 0"
                if percent:
                    lower = f"lower real_objects or objects of the bank, e.g. real_objects to {percent}% of its value"
                raise DataError(
                    f"datamodule.{self.place}.{name}: {len(found)} things could be cut out of {tried} boxes, and the "
                    f"bank needs {wanted}; {lower}, or add pictures"
                )
            log.info("cut %d things out of %d boxes of %s", len(found), tried, name)
            things += found[:wanted]
        return things

    def crop_backdrops(self, count: int, height: int, width: int, seed: int, pool: Parallel) -> list[np.ndarray]:
        """Returns `count` backdrops, see `crop_backdrop`. If there are fewer pictures, each gives several.

        Raises:
            DataError: a source has no annotated picture, or a picture cannot be read.
        """
        chosen = []
        for source, (name, wanted) in enumerate(self._quotas(count)):
            frames = _draw_frames(self.tables[name], np.random.default_rng([seed, 5, source]))
            pictures = {(each.folder, each.frames[frame]): (each, frame) for each, frame in frames}
            if wanted and not pictures:
                raise DataError(f"datamodule.{self.place}.{name} has no annotated picture; choose another split")
            chosen += islice(cycle(pictures.values()), wanted)
        return pool(
            delayed(crop_backdrop)(*each, height, width, np.random.default_rng([seed, 6, i]))
            for i, each in enumerate(chosen)
        )

    def _quotas(self, count: int) -> list[tuple[str, int]]:
        """Returns how many of `count` pictures each source gives."""
        shares = np.cumsum([self.weights[name] for name in self.tables])
        ends = np.rint(count * shares / shares[-1]).astype(int)
        return list(zip(self.tables, np.diff(ends, prepend=0).tolist(), strict=True))


def _draw_frames(table: SequenceTable, rng: np.random.Generator) -> Iterator[tuple[Sequence, int]]:
    """Yields the sequences in random order, each with a random frame that shows its object."""
    for row in rng.permutation(len(table)):
        sequence = table[int(row)]
        if len(sequence.visible_frames):
            yield sequence, int(rng.choice(sequence.visible_frames))
