"""The bank of pictures from which scenes are composed: objects in all poses, and backdrops. It is painted once."""

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

from datamodules.errors import DataError
from datamodules.scenes.camera import LUMA
from datamodules.shared_files import hold_lock
from datamodules.synthetic.bank_pictures import paint_backdrop, paint_object

# Part of the file's name. Raise it whenever the same spec gives other pictures.
VERSION = 1
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

    Raises:
        DataError: a number is below 8.
    """

    objects: int
    backdrops: int
    object_size: int
    height: int
    width: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("objects", "backdrops", "object_size", "height", "width"):
            if getattr(self, name) < 8:
                raise DataError(
                    f"datamodule.bank.{name}={getattr(self, name)} must be at least 8; see conf/datamodule/scenes.yaml"
                )

    @property
    def file_name(self) -> str:
        """Name of the bank's file. It is the same only for equal specs of the same `VERSION`."""
        text = json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)
        return f"scenes-{hashlib.sha256(text.encode()).hexdigest()[:10]}.safetensors"


class Bank(NamedTuple):
    """Pictures of N objects and M backdrops.

    Attributes:
        objects: (N, poses, 4, s, s) uint8, RGB premultiplied by alpha, and alpha.
        extents: (N, poses, directions, 2), points of the outline in object sizes, relative to the object's origin.
        frames: (N, 3), geometry of an object in its picture: one object size, and the origin's x and y, in units of the
            picture's side.
        backdrops: (M, 3, H, W) uint8, RGB.
        object_colours: (N, 3) in 0..1, mean colours of the objects.
        backdrop_colours: (M, 3) in 0..1, mean colours of the backdrops.
        backdrop_contrasts: (M,) in 0..1, standard deviations of the brightness of the backdrops.
    """

    objects: Tensor
    extents: Tensor
    frames: Tensor
    backdrops: Tensor
    object_colours: Tensor
    backdrop_colours: Tensor
    backdrop_contrasts: Tensor

    @classmethod
    def from_pictures(cls, objects: Tensor, extents: Tensor, frames: Tensor, backdrops: Tensor) -> "Bank":
        """Returns a bank with the colours and contrasts of its pictures."""
        sums = objects[:, 0].sum((2, 3), dtype=torch.float32)
        object_colours = sums[:, :3] / sums[:, 3:].clamp_min(1)
        backdrop_colours = backdrops.sum((2, 3), dtype=torch.float32) / backdrops[0, 0].numel() / 255
        brightness = torch.einsum("mchw,c->mhw", backdrops[..., ::4, ::4].float(), torch.tensor(LUMA)) / 255
        contrasts = brightness.std((1, 2))
        return cls(objects, extents, frames, backdrops, object_colours, backdrop_colours, contrasts)

    @property
    def occluder_count(self) -> int:
        """Number of occluders; they are the last of the objects."""
        return round(OCCLUDERS * len(self.objects))


def ensure_bank(spec: BankSpec, cache: Path) -> Path:
    """Returns the file of a bank and paints it on the first call. If several processes ask for it, one paints."""
    file = Path(cache) / spec.file_name
    file.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(file, "the bank of pictures"):
        if not file.is_file():
            unfinished = file.with_suffix(".tmp")
            save_file(_paint(spec), unfinished)
            unfinished.rename(file)
    return file


def load_bank(file: Path) -> Bank:
    """Loads a painted bank."""
    return Bank.from_pictures(**load_file(file))


def _paint(spec: BankSpec) -> dict[str, Tensor]:
    first_occluder = spec.objects - round(OCCLUDERS * spec.objects)
    workers = -1 if spec.objects + spec.backdrops > FEW else 1
    pool = Parallel(workers, backend="loky", batch_size=8)
    painted = pool(
        delayed(paint_object)(spec.seed, i, spec.object_size, i >= first_occluder) for i in range(spec.objects)
    )
    backdrops = pool(delayed(paint_backdrop)(spec.seed, i, spec.height, spec.width) for i in range(spec.backdrops))
    objects, extents, frames = (torch.from_numpy(np.stack(parts)) for parts in zip(*painted, strict=True))
    backdrops = torch.from_numpy(np.stack(backdrops))
    return {"objects": objects, "extents": extents, "frames": frames, "backdrops": backdrops}
