"""The bank of pictures from which scenes are composed: objects in all poses, and backdrops. It is made once.

Pictures are painted, or taken from annotated real pictures.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from safetensors.torch import load_file, save_file
from torch import Tensor

from datamodules.cutouts.collection import RealPictures
from datamodules.errors import DataError
from datamodules.scenes.camera import LUMA
from datamodules.shared_files import hold_lock
from datamodules.synthetic.bank_pictures import paint_backdrop, paint_object

# Part of the file's name. Raise it whenever the same spec gives other pictures.
VERSION = 1
REAL_VERSION = 2  # the same for the pictures that are taken from real ones
OCCLUDERS = 0.15  # fraction of the objects that are occluders
FEW = 100  # up to this number of pictures, painting in this process is faster than starting others


@dataclass(frozen=True)
class BankSpec:
    """Size and seed of a bank.

    Attributes:
        objects, backdrops: number of each.
        object_size: side of an object's picture, pixels.
        height, width: of a backdrop, pixels.
        seed: another seed gives other objects and backdrops.
        real_objects, real_backdrops: shares of the objects and of the backdrops that come from real pictures, 0 to 1.

    Raises:
        DataError: a number is below 8, or a share is out of its range.
    """

    objects: int
    backdrops: int
    object_size: int
    height: int
    width: int
    seed: int
    real_objects: float = 0.0
    real_backdrops: float = 0.0

    def __post_init__(self) -> None:
        for name in ("objects", "backdrops", "object_size", "height", "width"):
            if getattr(self, name) < 8:
                raise DataError(
                    f"datamodule.bank.{name}={getattr(self, name)} must be at least 8; "
                    "see conf/datamodule/source/scenes.yaml"
                )
        for name in ("real_objects", "real_backdrops"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(
                    f"datamodule.bank.{name}={getattr(self, name)} must be between 0 and 1; "
                    f"e.g. datamodule.bank.{name}=0.5"
                )

    @property
    def takes_real_pictures(self) -> bool:
        """Whether real pictures are needed."""
        return self.real_objects > 0 or self.real_backdrops > 0

    def file_name(self, pictures: RealPictures | None) -> str:
        """Returns the name of the bank's file. It is the same only for banks with equal content.

        Args:
            pictures: real pictures; None for a bank that is painted only.
        """
        spec = {name: value for name, value in asdict(self).items() if self.takes_real_pictures or "real" not in name}
        real = {"real": [REAL_VERSION, pictures.content()]} if pictures else {}
        text = json.dumps({"version": VERSION, **spec, **real}, sort_keys=True)
        return f"scenes-{hashlib.sha256(text.encode()).hexdigest()[:10]}.safetensors"


class Bank(NamedTuple):
    """Pictures of N objects and M backdrops.

    Attributes:
        objects: (N, poses, 4, s, s) uint8, RGB premultiplied by alpha, and alpha.
        extents: (N, poses, directions, 2), points of the outline in object sizes, relative to the object's origin.
        frames: (N, 3), geometry of an object in its picture: one object size, and the origin's x and y, in units of the
            picture's side.
        backdrops: (M, 3, H, W) uint8, RGB.
        real: (N,) bool, objects that are cut out of real pictures.
        object_colours: (N, 3) in 0..1, mean colours of the objects.
        backdrop_colours: (M, 3) in 0..1, mean colours of the backdrops.
        backdrop_contrasts: (M,) in 0..1, standard deviations of the brightness of the backdrops.
    """

    objects: Tensor
    extents: Tensor
    frames: Tensor
    backdrops: Tensor
    real: Tensor
    object_colours: Tensor
    backdrop_colours: Tensor
    backdrop_contrasts: Tensor

    @classmethod
    def from_pictures(
        cls, objects: Tensor, extents: Tensor, frames: Tensor, backdrops: Tensor, real: Tensor | None = None
    ) -> "Bank":
        """Returns a bank with the colours and contrasts of its pictures; without `real`, all objects are painted."""
        real = torch.zeros(len(objects), dtype=torch.bool) if real is None else real
        sums = objects[:, 0].sum((2, 3), dtype=torch.float32)
        object_colours = sums[:, :3] / sums[:, 3:].clamp_min(1)
        backdrop_colours = backdrops.sum((2, 3), dtype=torch.float32) / backdrops[0, 0].numel() / 255
        brightness = torch.einsum("mchw,c->mhw", backdrops[..., ::4, ::4].float(), torch.tensor(LUMA)) / 255
        contrasts = brightness.std((1, 2))
        return cls(objects, extents, frames, backdrops, real, object_colours, backdrop_colours, contrasts)

    @property
    def occluder_count(self) -> int:
        """Number of occluders; they are the last of the objects."""
        return round(OCCLUDERS * len(self.objects))


def ensure_bank(spec: BankSpec, cache: Path, pictures: RealPictures | None = None) -> Path:
    """Returns the file of a bank and makes it on the first call. If several processes ask for it, one makes it.

    Args:
        spec: size and seed.
        cache: folder of the file.
        pictures: real pictures, if the spec takes any.

    Raises:
        DataError: there are too few real things, or a real picture cannot be read.
    """
    file = Path(cache) / spec.file_name(pictures)
    file.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(file, "the bank of pictures"):
        if not file.is_file():
            unfinished = file.with_suffix(".tmp")
            save_file(_make(spec, pictures), unfinished)
            unfinished.rename(file)
    return file


def load_bank(file: Path) -> Bank:
    """Loads a bank."""
    return Bank.from_pictures(**load_file(file))


def _make(spec: BankSpec, pictures: RealPictures | None) -> dict[str, Tensor]:
    first_occluder = spec.objects - round(OCCLUDERS * spec.objects)
    workers = -1 if spec.objects + spec.backdrops > FEW else 1
    pool = Parallel(workers, backend="loky", batch_size=8)
    real, real_backdrops = _spread(spec.objects, spec.real_objects), _spread(spec.backdrops, spec.real_backdrops)
    things, backdrops, taken = [], [], {}
    if pictures:  # before the painting, because pictures may be too few
        things = pictures.cut_things(int(real.sum()), spec.object_size, spec.seed, pool)
        backdrops = pictures.crop_backdrops(int(real_backdrops.sum()), spec.height, spec.width, spec.seed, pool)
        taken = {"real": torch.from_numpy(real)}
    painted = pool(
        delayed(paint_object)(spec.seed, i, spec.object_size, i >= first_occluder) for i in np.flatnonzero(~real)
    )
    painted_backdrops = pool(
        delayed(paint_backdrop)(spec.seed, i, spec.height, spec.width) for i in np.flatnonzero(~real_backdrops)
    )
    things, backdrops = _merge(things, painted, real), _merge(backdrops, painted_backdrops, real_backdrops)
    objects, extents, frames = (torch.from_numpy(np.stack(parts)) for parts in zip(*things, strict=True))
    backdrops = torch.from_numpy(np.stack(backdrops))
    return {"objects": objects, "extents": extents, "frames": frames, "backdrops": backdrops, **taken}


def _spread(count: int, share: float) -> np.ndarray:
    """Returns which of `count` pictures are real, (count,) bool: `share` of them, evenly spread."""
    return np.diff(np.floor(np.arange(count + 1) * share + 1e-6)) > 0


def _merge(real: list, painted: list, is_real: np.ndarray) -> list:
    """Returns the next real or the next painted picture for each entry of `is_real`."""
    parts = {True: iter(real), False: iter(painted)}
    return [next(parts[bool(each)]) for each in is_real]
