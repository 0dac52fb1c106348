"""What a synthetic set is: its size, its seed, and the name of the folder that these two determine."""

import hashlib
import json
from dataclasses import asdict, dataclass

# Part of the folder name: raise it whenever the same spec gives other pictures or labels; else old folders are reused.
VERSION = 2

MIN_SIDE = 32


def _require(name: str, value: int, least: int, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"synthetic set: {name}={value!r} must be an integer of at least {least}; {remedy}")


@dataclass(frozen=True)
class SplitSpec:
    """One split.

    Args:
        sequences: number of videos.
        frames: pictures in each video.
        stride: motion is simulated in smooth moments and every stride-th one is rendered; a larger stride gives larger
            jumps from picture to picture without longer videos.
    """

    sequences: int
    frames: int
    stride: int

    def __post_init__(self) -> None:
        _require("sequences", self.sequences, 1, "for example sequences=20")
        _require("frames", self.frames, 1, "for example frames=60")
        _require("stride", self.stride, 1, "use stride=1 to render every simulated moment")


@dataclass(frozen=True)
class SyntheticSet:
    """A whole set: pictures of `width` x `height` pixels; train and val share no texture and no object."""

    seed: int
    width: int
    height: int
    train: SplitSpec
    val: SplitSpec

    def __post_init__(self) -> None:
        _require("seed", self.seed, 0, "for example seed=0")
        _require("width", self.width, MIN_SIDE, "for example width=320")
        _require("height", self.height, MIN_SIDE, "for example height=240")
        for name, split in (("train", self.train), ("val", self.val)):
            if not isinstance(split, SplitSpec):
                raise ValueError(f"synthetic set: {name}={split!r} is not a SplitSpec(sequences, frames, stride)")

    @property
    def folder(self) -> str:
        """Folder name: equal for equal specs of one generator version, and for nothing else."""
        text = json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)
        return "synthetic-" + hashlib.sha256(text.encode()).hexdigest()[:10]
