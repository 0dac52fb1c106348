"""Random scenes as a source of samples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.augmentation import Augmentation
from datamodules.crop_changes import CropChanges
from datamodules.cutouts.collection import RealPictures
from datamodules.errors import DataError
from datamodules.scenes.bank import BankSpec, ensure_bank
from datamodules.scenes.photo_realism import PhotoRealism
from datamodules.sequences.outside import without_outside_boxes
from datamodules.sources import Source, check_weights, read_sources


@dataclass(frozen=True)
class SceneSource:
    """Random scenes, of which the training device renders as many as their weight asks for.

    Attributes:
        bank: size and seed of the pictures that scenes are composed of.
        cache: folder in which the bank is stored.
        augmentation: probabilities and ranges of gray, mirrored and brighter crops of scenes.
        look: properties of photographs that scenes get; None leaves them as they are painted.
        weight: share of the samples relative to the other sources; 0 leaves scenes out.
        pictures: annotated data sets, by name, from which the bank takes its real objects and backdrops.
        place: where `pictures` stands in the section `datamodule` of a configuration, for messages.

    Raises:
        DataError: the bank takes real pictures, and no source of them has a weight, or one changes crops.
    """

    bank: BankSpec
    cache: str
    augmentation: Augmentation
    look: PhotoRealism | None
    weight: float
    pictures: Mapping[str, Source] | None = None
    place: str = "pictures"

    def __post_init__(self) -> None:
        if self.weight and self.bank.takes_real_pictures:
            check_weights(self.pictures or {})
        for name, source in (self.pictures or {}).items():
            if source.changes != CropChanges():
                raise DataError(
                    f"{self.place}.{name} has camera={source.camera}, stretch={source.stretch}, cover={source.cover}, "
                    "which change crops of samples; the pictures of a bank have none of these, so leave all three at 0"
                )

    def check(self) -> None:
        """Reads the data sets of real pictures, if the bank takes any.

        Raises:
            DataError: a data set is missing or broken.
        """
        _ = self.real_pictures

    @cached_property
    def real_pictures(self) -> RealPictures | None:
        """The data sets of real pictures; None if the bank takes none. They are read once."""
        if not self.bank.takes_real_pictures:
            return None
        sources = self.pictures or {}
        tables = read_sources(self.place, sources)
        return RealPictures(
            {name: without_outside_boxes(table)[0] for name, table in tables.items()},
            {name: sources[name].weight for name in tables},
            self.place,
        )

    @property
    def realism(self) -> PhotoRealism:
        """The look, or a look that adds nothing."""
        return self.look or PhotoRealism()

    @property
    def bank_name(self) -> str:
        """Name of the bank's file, which is the same only for banks with equal content."""
        return self.bank.file_name(self.real_pictures)

    def ensure_bank(self) -> Path:
        """Returns the file of the bank and makes it unless it exists.

        Raises:
            DataError: a data set of real pictures is missing or broken, or has too few pictures.
        """
        return ensure_bank(self.bank, Path(self.cache), self.real_pictures)

    def content(self) -> dict[str, Any]:
        """Returns all that scenes depend on, as plain data for a cache key.

        Raises:
            DataError: a data set of real pictures is missing or broken.
        """
        return {"bank": self.bank_name, "augmentation": asdict(self.augmentation), "look": asdict(self.realism)}
