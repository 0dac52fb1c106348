"""Measures training samples per second and core from 1920 x 1080 JPEG frames, decoded whole or in part.

python benchmarks/training_input.py
python benchmarks/training_input.py --noise 0 tracker=stark
python benchmarks/training_input.py --samples 50 tracker=dimp

Frames are rendered scenes with noise, saved at quality 90 without restart markers, like the files of most encoders, and
the same files after `python -m datamodules.prepare`, which needs jpegtran. Each frame has one box at a random position.
Samples follow the tracker's recipe, with its crops, jitter and augmentation. One process with one thread makes them,
and keeps freed memory as loader processes do. For each sample all ways of decoding take turns, in changing order. Times
are CPU times.

"Whole" decodes every frame completely and then crops. "Exact" is datamodule.reduced_decoding=false; the script checks
that its samples are bitwise equal. "Reduced" is datamodule.reduced_decoding=true. The difference is the mean absolute
difference between reduced and exact crops, in grey levels, over all crops.
"""

import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from command import composed, parser
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from datamodules.augmentation import LabelledCrop
from datamodules.dataset import TrackingDataset
from datamodules.frames.frame import Frame
from datamodules.freed_memory import keep_freed_memory
from datamodules.prepared_copy import prepare
from datamodules.sampling import SampleFrames
from datamodules.sequences.sequence import NumberedFrames, Sequence
from datamodules.sequences.table import SequenceTable
from datamodules.sources import Mixture
from datamodules.synthetic.scene import Scene

WIDTH, HEIGHT, QUALITY = 1920, 1080, 90
FRAMES, WARMUP = 24, 3
KINDS = ("as is", "prepared")
SIZES = ((60, 122), (122, 247), (247, 500))  # mean sides of boxes in pixels, log-uniform within each range
PARTS = 5  # parts of the samples, for the standard deviation


class WholeFrames(TrackingDataset):
    """Dataset that decodes every frame completely before it is cropped."""

    def _crops(self, draw: SampleFrames, rng: np.random.Generator) -> list[LabelledCrop]:
        return [
            self._request(Frame(Path(), partial(sequence.image, number)), sequence, number, role, rng).crop()
            for role, drawn in (("template", draw.templates), ("search", draw.search))
            for sequence, number in drawn
        ]


def main() -> None:
    """Prints a table with one row per range of box sizes, and one row for all."""
    options = parser(__doc__)
    options.add_argument("--samples", type=int, default=150, help="samples per range of boxes (default: %(default)s)")
    options.add_argument("--pictures", type=int, default=8, help="number of different frames (default: %(default)s)")
    options.add_argument(
        "--noise", type=float, default=4.0, help="standard deviation in grey levels (default: %(default)s)"
    )
    given, overrides = options.parse_known_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cfg = composed(["scale=full", *overrides])
    rng = np.random.default_rng(cfg.seed)
    with tempfile.TemporaryDirectory() as folder:
        kilobytes = write(Path(folder), given.pictures, given.noise, rng)
        rows = {sides: measure(cfg, Path(folder), sides, given.samples, rng) for sides in SIZES}
    _print(cfg, rows, kilobytes)


def write(folder: Path, pictures: int, noise: float, rng: np.random.Generator) -> list[float]:
    """Writes a folder of frames for each kind of file, few pictures under many names, and returns their sizes in kB."""
    source, prepared = (folder / kind for kind in KINDS)
    for i in track(range(pictures), description="frames"):
        picture = Scene(rng, WIDTH, HEIGHT, 1).render(0)[0] + rng.normal(0, noise, (HEIGHT, WIDTH, 1))
        picture = picture.clip(0, 255).astype(np.uint8)
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        source.mkdir(exist_ok=True)
        for k in range(i, FRAMES, pictures):
            (source / f"{k}.jpg").write_bytes(data)
    prepare(source, prepared)
    return [path.stat().st_size / 1000 for path in (*source.glob("*.jpg"), *prepared.glob("*.jpg"))]


def measure(
    cfg: DictConfig, folder: Path, sides: tuple[float, float], samples: int, rng: np.random.Generator
) -> Mapping[str, np.ndarray]:
    """Returns the seconds per sample of each way, and the "difference" of reduced crops, each (samples,)."""
    size = np.exp(rng.uniform(*np.log(sides), (FRAMES, 1)) + rng.normal(0, 0.2, (FRAMES, 1)) * (1, -1))
    boxes = np.hstack([rng.random((FRAMES, 2)) * ((WIDTH, HEIGHT) - size), size])
    ways = {"whole": dataset(cfg, folder / "as is", boxes, WholeFrames)}
    for kind in KINDS:
        for reduced in (False, True):
            name = f"{'reduced' if reduced else 'exact'}, {kind}"
            ways[name] = dataset(cfg, folder / kind, boxes, TrackingDataset, reduced_decoding=reduced)
    result = {name: np.zeros(samples) for name in (*ways, "difference")}
    for i in track(range(-WARMUP, samples), description=f"boxes of {sides[0]} to {sides[1]} pixels"):
        made = {}
        for name in np.roll(list(ways), i):
            start = time.process_time()
            made[name] = ways[name][i % samples]
            result[name][i] = time.process_time() - start
        for name in (name for name in made if name.startswith("exact")):
            if not all(torch.equal(made["whole"][key], made[name][key]) for key in made[name]):
                raise RuntimeError(f"sample {i} differs between whole and {name}")
        result["difference"][i] = np.abs(_pixels(made["whole"]) - _pixels(made["reduced, as is"])).mean()
    return result


def dataset(
    cfg: DictConfig, folder: Path, boxes: np.ndarray, kind: type[TrackingDataset], **options: bool
) -> TrackingDataset:
    """Returns a dataset of samples from one video of `FRAMES` frames."""
    video = Sequence("video", folder, NumberedFrames("", 0, 1, ".jpg", FRAMES), boxes, np.zeros(FRAMES, bool))
    sampler, augmentation = instantiate(cfg.datamodule.sampler, negatives=0.0), instantiate(cfg.datamodule.augmentation)
    template, search = instantiate(cfg.tracker.template), instantiate(cfg.tracker.search)
    videos = Mixture({"": SequenceTable.from_sequences([video])}, {"": 1}, sampler, template.count, search.count)
    return kind(videos, sampler, template, search, augmentation, cfg.seed, train=True, **options)


def _print(
    cfg: DictConfig, rows: Mapping[tuple[float, float], Mapping[str, np.ndarray]], kilobytes: list[float]
) -> None:
    named = {f"{low} to {high}": row for (low, high), row in rows.items()}
    named["all"] = {name: np.stack([row[name] for row in rows.values()], 1) for name in rows[SIZES[0]]}
    table = Table(
        title=f"{cfg.tracker._target_}, {WIDTH} x {HEIGHT}, {min(kilobytes):.0f} to {max(kilobytes):.0f} kB a frame. "
        "Whole: samples a second and core; others: how many times as many, "
        f"± standard deviation over {PARTS} parts of {3 * len(rows[SIZES[0]]['whole'])} samples"
    )
    ways = [name for name in named["all"] if name not in ("whole", "difference")]
    for column in ("box (pixels)", "whole", *ways, "difference"):
        table.add_column(column, justify="right")
    for name, row in named.items():
        cells = [f"{_rate(row['whole']):.1f}"]
        for way in ways:
            whole, fast = (np.array_split(row[k], PARTS) for k in ("whole", way))
            parts = [_rate(b) / _rate(a) for a, b in zip(whole, fast, strict=True)]
            cells.append(f"{_rate(row[way]) / _rate(row['whole']):.2f} ± {np.std(parts):.2f}")
        table.add_row(name, *cells, f"{row['difference'].mean():.2f}")
    Console().print(table)


def _pixels(sample: Mapping[str, Tensor]) -> np.ndarray:
    return np.concatenate([sample[role].numpy().ravel() for role in ("template", "search")]).astype(int)


def _rate(seconds: np.ndarray) -> float:
    return 1 / seconds.mean()


if __name__ == "__main__":
    main()
