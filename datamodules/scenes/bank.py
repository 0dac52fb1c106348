"""What scenes are made of: objects in all their poses and backdrops, painted once by the synthetic world's painters."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from filelock import FileLock
from joblib import Parallel, delayed
from safetensors.torch import load_file, save_file
from torch import Tensor

from datamodules.scenes.lens import LUMA
from datamodules.synthetic.backdrops import backdrop
from datamodules.synthetic.sprites import POSES, make_occluder, make_sprite

# Part of the file's name: raise it whenever the same spec gives other pictures.
VERSION = 1
OCCLUDERS = 0.15  # share of the objects that are made to stand in the way
DIRECTIONS = 32  # in which an object's extent is remembered
FEW = 100  # pictures that are painted sooner than processes start
PAINTED = 96.0  # pixels a side that objects are painted for


@dataclass(frozen=True)
class BankSpec:
    """Size and seed of a bank.

    Attributes:
        objects, backdrops: how many.
        object_size: pixels a side of an object's picture.
        height, width: of a backdrop in pixels.
        seed: another seed is another world.
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
                raise ValueError(
                    f"bank.{name}={getattr(self, name)} must be at least 8; try conf/datamodule/scenes.yaml"
                )

    @property
    def file(self) -> str:
        """Equal for equal specs, and for nothing else."""
        text = json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)
        return f"scenes-{hashlib.sha256(text.encode()).hexdigest()[:10]}.safetensors"


class Bank(NamedTuple):
    """Painted things.

    Attributes:
        objects: (N, poses, 4, s, s) uint8, RGB premultiplied by alpha, and alpha.
        extents: (N, poses, directions, 2), points of the outline in object sizes around the object's origin.
        frames: (N, 3), where in its picture an object lies: one object size, and the origin's x and y, in units of
            the picture's side.
        backdrops: (M, 3, H, W) uint8, RGB.
        colours: (N, 3) in 0..1, mean colours of the objects.
        tones: (M, 3) in 0..1, mean colours of the backdrops.
        spreads: (M,), standard deviations of their brightness, of 1.
    """

    objects: Tensor
    extents: Tensor
    frames: Tensor
    backdrops: Tensor
    colours: Tensor
    tones: Tensor
    spreads: Tensor

    @classmethod
    def of(cls, objects: Tensor, extents: Tensor, frames: Tensor, backdrops: Tensor) -> "Bank":
        """With what is measured of the pictures."""
        worn = objects[:, 0].sum((2, 3), dtype=torch.float32)
        tones = backdrops.sum((2, 3), dtype=torch.float32) / backdrops[0, 0].numel() / 255
        brightness = torch.einsum("mchw,c->mhw", backdrops[..., ::4, ::4].float(), torch.tensor(LUMA)) / 255
        colours = worn[:, :3] / worn[:, 3:].clamp_min(1)
        return cls(objects, extents, frames, backdrops, colours, tones, brightness.std((1, 2)))

    @property
    def occluders(self) -> int:
        """So many of the objects, the last ones, are made to stand in the way."""
        return round(OCCLUDERS * len(self.objects))


def ensure_bank(spec: BankSpec, cache: Path) -> Path:
    """The file of a bank, painted on the first call; of several processes that ask for it one paints."""
    file = Path(cache) / spec.file
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.is_file():
            unfinished = file.with_suffix(".tmp")
            save_file(_paint(spec), unfinished)
            unfinished.rename(file)
    return file


def load_bank(file: Path) -> Bank:
    """A painted bank."""
    return Bank.of(**load_file(file))


def _paint(spec: BankSpec) -> dict[str, Tensor]:
    rigid = round(OCCLUDERS * spec.objects)
    workers = -1 if spec.objects + spec.backdrops > FEW else 1
    pool = Parallel(workers, backend="loky", batch_size=8)
    things = pool(delayed(_object)(spec, i, i >= spec.objects - rigid) for i in range(spec.objects))
    views = pool(delayed(_backdrop)(spec, i) for i in range(spec.backdrops))
    objects, extents, frames = (torch.from_numpy(np.stack(parts)) for parts in zip(*things, strict=True))
    views = torch.from_numpy(np.stack(views))
    return {"objects": objects, "extents": extents, "frames": frames, "backdrops": views}


def _object(spec: BankSpec, index: int, rigid: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cv2.setNumThreads(1)
    rng = np.random.default_rng([spec.seed, 1, index])
    make = make_occluder if rigid else make_sprite
    sprite = make(rng, PAINTED, 1.0, rng.uniform(60, 170) * np.ones(3))
    shape = (spec.object_size, spec.object_size)
    side = sprite.poses[0].shape[0]
    pictures = [cv2.resize(pose, shape, interpolation=cv2.INTER_AREA) for pose in sprite.poses]
    pictures = np.stack([picture[..., [2, 1, 0, 3]].transpose(2, 0, 1) for picture in pictures])
    angle = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    direction = np.stack([np.cos(angle), np.sin(angle)])
    extents = np.stack([hull[(hull @ direction).argmax(0)] for hull in sprite.hulls]).astype(np.float32)
    poses = np.arange(POSES) % len(pictures)
    frame = np.array([sprite.unit, *sprite.centre], np.float32) / side
    return pictures[poses], extents[poses], frame


def _backdrop(spec: BankSpec, index: int) -> np.ndarray:
    cv2.setNumThreads(1)
    rng = np.random.default_rng([spec.seed, 2, index])
    return backdrop(rng, spec.height, spec.width, 1.0)[..., ::-1].transpose(2, 0, 1).copy()
