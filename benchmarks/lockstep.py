"""Frames per second of several targets in lockstep: one call of a tracker's `steps` for all of them.

python benchmarks/lockstep.py tracker=ostrack
python benchmarks/lockstep.py --targets 1,2,4 --threads 2 tracker=stark scale=full
python benchmarks/lockstep.py --device cuda tracker=ostrack scale=full

A call takes the search crops as they come from the picture: to the device, normalised, through the network, boxes back.
Cropping and decoding of pictures are left out. Weights are random, and no crop has padding. A tracker without lockstep
(DiMP) finds one target after the other, and gains nothing.
"""

from functools import partial

import numpy as np
import pytorch_lightning as L
import torch
from command import composed, parser
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from evaluation.export.profile import RUNS, WARMUP, medians
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import build_tracker
from trackers.online import Lockstep

PICTURE, BOX = (960, 1280, 3), (610.0, 450.0, 60.0, 60.0)  # far from its edges


def main() -> None:
    """Prints a row for each number of targets."""
    options = parser(__doc__)
    options.add_argument("--targets", default="1,2,4,8", help="how many at once (default: %(default)s)")
    options.add_argument("--threads", default="1,2", help="of torch, one column each (default: %(default)s)")
    options.add_argument("--device", default="cpu", help="where the network runs (default: %(default)s)")
    given, overrides = options.parse_known_args()
    counts, threads = ([int(n) for n in listed.split(",")] for listed in (given.targets, given.threads))
    cfg = composed(overrides)
    L.seed_everything(cfg.seed, verbose=False)
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
    _print(cfg, given.device, counts, {n: milliseconds(tracker, counts, given.device, n) for n in threads})


def milliseconds(tracker: Tracker, counts: list[int], device: str, threads: int) -> dict[int, float]:
    """Median time of one call for each number of targets, all taking turns."""
    torch.set_num_threads(threads)
    loop, picture = Lockstep(tracker, device), np.random.default_rng(0).integers(0, 255, PICTURE, np.uint8)
    states = [loop.begin(picture, BOX).state for _ in range(max(counts))]
    search = tracker.crop(picture, BOX, tracker.search)[0]
    return medians({n: partial(tracker.steps, states[:n], [search] * n) for n in counts}, device)


def _print(cfg: DictConfig, device: str, counts: list[int], times: dict[int, dict[int, float]]) -> None:
    table = Table(
        title=f"{cfg.tracker._target_}, {cfg.scale}, {device}, float32, eager; median of {RUNS} calls after {WARMUP} "
        "warm-ups, in turns; gain: frames per second over those of the first row"
    )
    table.add_column("targets", justify="right")
    for threads in times:
        for column in (f"call (ms), {threads} thread{'s' * (threads > 1)}", "frames/s", "gain"):
            table.add_column(column, justify="right")
    rates = {threads: {n: 1e3 * n / ms for n, ms in of.items()} for threads, of in times.items()}
    for n in counts:
        cells = []
        for threads, of in rates.items():
            cells += [f"{times[threads][n]:.2f}", f"{of[n]:.1f}", f"{of[n] / of[counts[0]]:.2f}"]
        table.add_row(str(n), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
