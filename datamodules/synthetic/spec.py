"""Specification of a synthetic set: its size, its seed, and the folder name that follows from them."""

import hashlib
import json
from dataclasses import asdict, dataclass

from datamodules.errors import DataError

# Part of the folder name. Raise it whenever the same spec gives other pictures or labels, or old folders are used.
VERSION = 2

MIN_SIDE = 32


def _check(name: str, value: int, lowest: int, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise DataError(f"synthetic set: {name}={value!r} must be an integer of at least {lowest}; {remedy}")


@dataclass(frozen=True)
class SplitSpec:
    """Size of one split.

    Args:
        sequences: number of videos.
        frames: pictures in each video.
        stride: motion is simulated in small time steps (moments), and every stride-th one is rendered. A larger stride
            gives faster motion from picture to picture.
        leaves: whether the object leaves the picture in the middle of each video, and returns.
    """

    sequences: int
    frames: int
    stride: int
    leaves: bool = False

    def __post_init__(self) -> None:
        _check("sequences", self.sequences, 1, "for example sequences=20")
        _check("frames", self.frames, 1, "for example frames=60")
        _check("stride", self.stride, 1, "use stride=1 to render every simulated moment")
        if not isinstance(self.leaves, bool):
            raise DataError(f"synthetic set: leaves={self.leaves!r} must be true or false")


@dataclass(frozen=True)
class SyntheticSet:
    """Size and seed of a set with pictures of `width` x `height` pixels. Its splits share no texture and no object."""

    seed: int
    width: int
    height: int
    train: SplitSpec
    val: SplitSpec

    def __post_init__(self) -> None:
        _check("seed", self.seed, 0, "for example seed=0")
        _check("width", self.width, MIN_SIDE, "for example width=320")
        _check("height", self.height, MIN_SIDE, "for example height=240")
        for name, split in (("train", self.train), ("val", self.val)):
            if not isinstance(split, SplitSpec):
                raise DataError(f"synthetic set: {name}={split!r} is not a SplitSpec(sequences, frames, stride)")

    @property
    def folder_name(self) -> str:
        """Name of the set's folder. It is the same only for equal specs of the same `VERSION`."""
        spec = asdict(self)
        for split in ("train", "val"):
            if not spec[split]["leaves"]:
                del spec[split]["leaves"]  # sets that were written before the option existed keep their names
        text = json.dumps({"version": VERSION, **spec}, sort_keys=True)
        return "synthetic-" + hashlib.sha256(text.encode()).hexdigest()[:10]
