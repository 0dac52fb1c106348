"""Fake data sets: a few short synthetic videos in the official layouts, to try a command before the data are there."""

import json
import shutil
from collections.abc import Sequence as Several
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.errors import DataError
from datamodules.official_layouts import write_coco, write_got10k, write_lasot, write_trackingnet
from datamodules.readers.trackingnet import CHUNKS
from datamodules.sequences.sequence import Sequence
from datamodules.sequences.table import SequenceTable
from datamodules.shared_files import hold_lock, replace_folder
from datamodules.synthetic import SyntheticSet, read_synthetic

VERSION = 1  # raise it whenever equal settings give other files
NOTE = "fake_data.json"  # file that says what the folder holds


@dataclass(frozen=True)
class FakeData:
    """GOT-10k, LaSOT, TrackingNet and COCO with a few synthetic videos, in the official layouts.

    All data sets show the same videos, under names of their own.

    Attributes:
        folder: folder of the data sets, for `paths.data`.
        cache: folder that stores the synthetic videos.
        videos: the synthetic videos: `train` for training splits, `val` for validation and test splits.
        lasot_train, lasot_test: names of the sequences that LaSOT has, from the official lists of the splits.
    """

    folder: str
    cache: str
    videos: SyntheticSet
    lasot_train: Several[str]
    lasot_test: Several[str]

    def write(self) -> None:
        """Writes the data sets, unless an earlier call with equal settings has written them.

        If several processes call it at once, one writes and the others wait.

        Raises:
            DataError: the folder holds other files, which would be lost.
        """
        folder = Path(self.folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder, "the fake data sets"):
            if folder.exists() and not (folder / NOTE).is_file():
                raise DataError(
                    f"fake_data.folder={folder} holds files that are no fake data; name another folder, e.g. "
                    "fake_data.folder=cache/miniature"
                )
            note = json.dumps([VERSION, asdict(self.videos), [*self.lasot_train], [*self.lasot_test]])
            if folder.is_dir() and (folder / NOTE).read_text() == note:
                return
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            self._write_data_sets(unfinished)
            (unfinished / NOTE).write_text(note)
            replace_folder(unfinished, folder)

    def _write_data_sets(self, root: Path) -> None:
        train, val = (read_synthetic(self.videos, self.cache, split) for split in ("train", "val"))
        test = _under_names(val, [name.replace("Val", "Test") for name in val.names])
        write_got10k(root / "got10k" / "train", _under_names(train, train.names))
        write_got10k(root / "got10k" / "val", _under_names(val, val.names))
        write_got10k(root / "got10k" / "test", test, first_box_only=True)
        write_lasot(root / "lasot", _under_names(train, self.lasot_train) | _under_names(val, self.lasot_test))
        for chunk in range(CHUNKS):
            write_trackingnet(root / "trackingnet" / f"TRAIN_{chunk}", {f"video_{chunk}": train[chunk % len(train)]})
        write_trackingnet(root / "trackingnet" / "TEST", test, first_box_only=True)
        for split in ("train2014", "train2017"):
            write_coco(root / "coco", split, _under_names(train, train.names))


def _under_names(videos: SequenceTable, names: Several[str]) -> dict[str, Sequence]:
    """Returns a video for each name, by name. If there are more names than videos, the videos repeat."""
    return {name: videos[i % len(videos)] for i, name in enumerate(names)}
