"""Many annotated videos as columns, in memory and on disk: a data set may have millions of frames.

A `Sequence` is made when it is indexed. A hundred thousand Python objects would take seconds to make, and each loader
worker would copy their memory as soon as it changes their reference counts. All workers map the same column files.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Names
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.frames.video import INDEX
from datamodules.sequences.attributes import AttributeReader
from datamodules.sequences.frame_files import hash_frame_files
from datamodules.sequences.sequence import NumberedFrames, Sequence, visible_mask

UNKNOWN = -1  # cover, if the data set does not say


@dataclass(frozen=True)
class SequenceTable:
    """Annotated videos, in order; `table[i]` is a `Sequence`.

    Attributes:
        root: folder of the data set.
        columns: arrays by name. One row per video: "name", "folder" (relative to the root), "count" of frames,
            "numbered" (first number, digits), "affixes" (prefix, suffix), "resolution" (0 for unknown), and "box_end",
            "name_end", "video_end": ends of the video's rows in the columns that follow. One row per annotated frame:
            "boxes", "absent", "cover". One row per frame of videos whose file names do not count upwards: "names". One
            row per frame of video files: "video", their indices.
        still: whether these are single pictures and not videos.
        generated: name of the specification from which this project made the files, the same for equal pictures; None
            for all other files, whose pictures are known by sizes and times.
        whole: number of sequences of the official part that these sequences are taken from; None if there is none.
        read_attributes: reads the attributes of sequences; None if the data set has none. Nothing is read before it is
            called, and neither samples nor scores depend on it.
    """

    root: Path
    columns: dict[str, np.ndarray]
    still: bool = False
    generated: str | None = None
    whole: int | None = None
    read_attributes: AttributeReader | None = None

    @classmethod
    def from_sequences(cls, sequences: Iterable[Sequence], root: str | Path = "/") -> "SequenceTable":
        """Returns the table of some sequences; their folders lie below `root`."""
        root, rows, boxes, absent, cover, names = Path(root), [], [], [], [], []
        videos, still = [], False
        for s in sequences:
            listed = [] if isinstance(s.frames, NumberedFrames) else list(s.frames)
            f = s.frames if isinstance(s.frames, NumberedFrames) else NumberedFrames("", 0, 0, "", len(listed))
            folder = str(s.folder.relative_to(root)) if s.folder.is_relative_to(root) else str(s.folder)
            rows.append((s.name, folder, len(s), (f.first, f.digits), (f.prefix, f.suffix), s.resolution or (0, 0)))
            video = np.empty(0, INDEX) if s.video is None else s.video
            rows[-1] += (len(s.boxes), len(listed), len(video))
            boxes.append(s.boxes)
            absent.append(s.absent)
            cover.append(np.full(len(s.boxes), UNKNOWN) if s.cover is None else s.cover)
            names += listed
            videos.append(video)
            still |= s.still
        name, folder, count, numbered, affixes, resolution, annotated, listed, indexed = (
            zip(*rows, strict=True) if rows else [()] * 9
        )
        columns = {
            "name": np.array(name, np.str_),
            "folder": np.array(folder, np.str_),
            "count": np.array(count, np.int64),
            "numbered": np.array(numbered, np.int64).reshape(-1, 2),
            "affixes": np.array(affixes, np.str_).reshape(-1, 2),
            "resolution": np.array(resolution, np.int32).reshape(-1, 2),
            "box_end": np.cumsum(annotated, dtype=np.int64),
            "name_end": np.cumsum(listed, dtype=np.int64),
            "video_end": np.cumsum(indexed, dtype=np.int64),
            "boxes": np.concatenate([np.empty((0, 4)), *boxes]),
            "absent": np.concatenate([np.empty(0, bool), *absent]),
            "cover": np.concatenate([np.empty(0, np.int8), *cover]).astype(np.int8),
            "names": np.array(names, np.str_),
            "video": np.concatenate([np.empty(0, INDEX), *videos]),
        }
        return cls(root, columns, still)

    @classmethod
    def from_pictures(
        cls, root: Path, folder: Path, names: np.ndarray, pictures: np.ndarray, boxes: np.ndarray, sizes: np.ndarray
    ) -> "SequenceTable":
        """Returns the table of annotated objects in still pictures, without making a `Sequence` for each.

        Args:
            root: folder of the data set.
            folder: folder of all pictures, below `root`.
            names: names of the objects, (n,) str.
            pictures: file names of their pictures, (n,) str.
            boxes: xywh in pixels, (n, 4) float64.
            sizes: (width, height) of the pictures, (n, 2) int32.
        """
        n = len(names)
        columns = {
            "name": names,
            "folder": np.full(n, str(folder.relative_to(root))),
            "count": np.ones(n, np.int64),
            "numbered": np.zeros((n, 2), np.int64),
            "affixes": np.zeros((n, 2), np.str_),
            "resolution": sizes,
            "box_end": np.arange(1, n + 1),
            "name_end": np.arange(1, n + 1),
            "video_end": np.zeros(n, np.int64),
            "boxes": boxes,
            "absent": np.zeros(n, bool),
            "cover": np.full(n, UNKNOWN, np.int8),
            "names": pictures,
            "video": np.empty(0, INDEX),
        }
        return cls(root, columns, still=True)

    def __len__(self) -> int:
        return len(self.columns["name"])

    def __iter__(self) -> Iterator[Sequence]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Sequence:
        c = self.columns
        i = range(len(self))[i]
        boxes, frames, video = self._rows("box_end", i), self._frames(i), self._rows("video_end", i)
        cover, resolution = c["cover"][boxes], tuple(c["resolution"][i].tolist())
        return Sequence(
            name=str(c["name"][i]),
            folder=self.root / str(c["folder"][i]),
            frames=frames,
            boxes=c["boxes"][boxes],
            absent=c["absent"][boxes],
            cover=None if cover.size and cover[0] == UNKNOWN else cover,
            resolution=resolution if all(resolution) else None,
            still=self.still,
            video=c["video"][video] if video.stop > video.start else None,
        )

    @property
    def names(self) -> list[str]:
        """Names of the videos."""
        return self.columns["name"].tolist()

    @property
    def coverage(self) -> str:
        """The share of the official part in words, e.g. "3 of 280 sequences"; "" if nothing of it is missing."""
        return f"{len(self):,} of {self.whole:,} sequences" if self.whole and len(self) < self.whole else ""

    @property
    def lengths(self) -> np.ndarray:
        """Number of frames of each video, (len(self),)."""
        return self.columns["count"]

    def visible_counts(self) -> np.ndarray:
        """Returns the number of visible frames of each video, (len(self),)."""
        c = self.columns
        before = np.concatenate([[0], np.cumsum(visible_mask(c["boxes"], c["absent"], c["cover"]))])
        return np.diff(before[c["box_end"]], prepend=0)

    def content(self) -> str:
        """Returns a hash of all that samples and scores depend on: names, annotation and pictures of all videos.

        Neither the path of the data set nor the names of frames count; see `frame_files` for what tells pictures apart.
        """
        c = self.columns
        annotation = [c[name].tolist() for name in ("name", "count", "box_end")]
        arrays = [c[name].tobytes() for name in ("boxes", "absent", "cover", "resolution")]
        return _digest(json.dumps([*annotation, self.still, self.files_state]).encode(), *arrays)

    def tracker_inputs(self) -> dict[str, str]:
        """Returns for each video, by name, a hash of all that a tracker sees: length, first box and pictures."""
        c = self.columns
        first = c["boxes"][np.concatenate([[0], c["box_end"][:-1]])[: len(self)]].tolist()
        inputs = zip(c["name"].tolist(), c["count"].tolist(), first, self.files_state, strict=True)
        return {name: _digest(json.dumps(seen).encode()) for name, *seen in inputs}

    @cached_property
    def files_state(self) -> list[str]:
        """For each video a hash of the sizes and times of its frame files, read once.

        It is `generated` where this project made the files. Still pictures of one folder have one hash for all.
        """
        if self.generated:
            return [self.generated] * len(self)
        folders = [self.root / folder for folder in self.columns["folder"].tolist()]
        if self.still and len(set(folders)) == 1:
            return hash_frame_files([(folders[0], self.columns["names"].tolist())]) * len(self)
        return hash_frame_files((folder, self._frames(i)) for i, folder in enumerate(folders))

    def _frames(self, i: int) -> Names[str]:
        """Returns the file names of the frames of video `i`."""
        c = self.columns
        listed = tuple(c["names"][self._rows("name_end", i)].tolist())
        if listed:
            return listed
        (first, digits), (prefix, suffix) = c["numbered"][i].tolist(), c["affixes"][i].tolist()
        return NumberedFrames(prefix, first, digits, suffix, int(c["count"][i]))

    def _rows(self, ends: str, i: int) -> slice:
        """Returns the rows of video `i` in the columns whose ends the column `ends` holds."""
        return slice(self.columns[ends][i - 1] if i else 0, self.columns[ends][i])

    def save(self, folder: Path) -> None:
        """Writes one file per column into an existing folder."""
        for name, column in self.columns.items():
            np.save(folder / f"{name}.npy", column)
        (folder / "table.json").write_text(json.dumps({"still": self.still, "whole": self.whole}))

    @classmethod
    def load(cls, folder: Path, root: Path) -> "SequenceTable":
        """Loads a table that `save` wrote. Columns are memory-mapped, so they are read when they are used.

        Raises:
            OSError: a file is missing.
        """
        columns = {p.stem: np.load(p, mmap_mode="r").view(np.ndarray) for p in sorted(folder.glob("*.npy"))}
        return cls(root, columns, **json.loads((folder / "table.json").read_text()))


def _digest(*parts: bytes) -> str:
    """Returns a hash of some data; where one part ends and the next begins counts, too."""
    state = hashlib.sha256()
    for part in parts:
        state.update(f"{len(part)} ".encode())
        state.update(part)
    return state.hexdigest()[:16]


@dataclass(frozen=True)
class Selection:
    """Some of the videos of a table: `rows` holds their row numbers, (n,)."""

    table: SequenceTable
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Sequence:
        return self.table[int(self.rows[i])]
