"""Measures frames per second of several targets in lockstep: one call of `OnlineRules.steps` for all targets.

python benchmarks/lockstep.py tracker=ostrack
python benchmarks/lockstep.py --targets 1,2,4 --threads 2 tracker=stark scale=full
python benchmarks/lockstep.py --device cuda tracker=ostrack scale=full

A call moves the search crops to the device, normalizes them, runs the network and returns the boxes. Decoding and
cropping of pictures are not measured. Weights are random, and no crop has padding. A tracker without lockstep (DiMP)
finds one target after the other and gains nothing.
"""

from functools import partial

import numpy as np
import pytorch_lightning as L
import torch
from command import composed, parser
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from pruning.cost.turns import RUNS, WARMUP, medians
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import build_tracker
from trackers.online import Lockstep

PICTURE, BOX = (960, 1280, 3), (610.0, 450.0, 60.0, 60.0)  # far from the edges of the picture


def main() -> None:
    """Prints a table with one row per number of targets."""
    options = parser(__doc__)
    options.add_argument("--targets", default="1,2,4,8", help="numbers of targets at once (default: %(default)s)")
    options.add_argument("--threads", default="1,2", help="threads of torch to compare (default: %(default)s)")
    options.add_argument("--device", default="cpu", help="device of the network (default: %(default)s)")
    given, overrides = options.parse_known_args()
    counts, threads = ([int(n) for n in listed.split(",")] for listed in (given.targets, given.threads))
    cfg = composed(overrides)
    L.seed_everything(cfg.seed, verbose=False)
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True))
    _print(cfg, given.device, counts, {n: milliseconds(tracker, counts, given.device, n) for n in threads})


def milliseconds(tracker: Tracker, counts: list[int], device: str, threads: int) -> dict[int, float]:
    """Returns the median milliseconds of one call for each number of targets. The calls take turns."""
    torch.set_num_threads(threads)
    loop, picture = Lockstep(tracker, device), np.random.default_rng(0).integers(0, 255, PICTURE, np.uint8)
    states = [loop.begin(picture, BOX).memory for _ in range(max(counts))]
    rules, runtime = loop.rules, loop.runtime
    search = rules.crop(picture, BOX, rules.search)[0]
    return medians({n: partial(rules.steps, runtime, states[:n], [search] * n) for n in counts}, device)


def _print(cfg: DictConfig, device: str, counts: list[int], times: dict[int, dict[int, float]]) -> None:
    table = Table(
        title=f"{cfg.tracker._target_}, {cfg.scale}, {device}, float32, eager; median of {RUNS} calls after {WARMUP} "
        "warm-ups, in turns; gain: frames per second over those of the first row"
    )
    table.add_column("targets", justify="right")
    for threads in times:
        for column in (f"call (ms), {threads} thread{'s' * (threads > 1)}", "frames/s", "gain"):
            table.add_column(column, justify="right")
    rates = {threads: {n: 1e3 * n / ms for n, ms in by_count.items()} for threads, by_count in times.items()}
    for n in counts:
        cells = []
        for threads, rate in rates.items():
            cells += [f"{times[threads][n]:.2f}", f"{rate[n]:.1f}", f"{rate[n] / rate[counts[0]]:.2f}"]
        table.add_row(str(n), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
