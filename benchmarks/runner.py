"""Measures the time of an evaluation with several workers and with sequences in lockstep, up to the last result file.

python benchmarks/runner.py tracker=ostrack
python benchmarks/runner.py --workers 1,2 --lockstep 1,8 tracker=stark benchmark=got10k paths.data=/data
python benchmarks/runner.py --lockstep 1,16,64 scale=full benchmark=got10k paths.data=/data device=cuda

Every setting runs the same tracker with random weights on the same sequences. All settings take turns, several times.
The time includes the start of the processes. Boxes are compared with those of the first setting.
"""

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from command import composed, parser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from evaluation.tracking.result_files import read_boxes
from evaluation.tracking.runner import Runner
from trackers.checkpoints.checkpoint import Checkpoint, build_tracker
from trackers.loading import read_tracker


def main() -> None:
    """Prints a table with one row per setting."""
    options = parser(__doc__)
    options.add_argument("--workers", default="1,2", help="numbers of processes (default: %(default)s)")
    options.add_argument("--lockstep", default="1,4,8", help="sequences at once (default: %(default)s)")
    options.add_argument("--repeats", type=int, default=3, help="runs of each setting (default: %(default)s)")
    options.add_argument(
        "--threads", type=int, default=2, help="threads of torch, shared by the workers (default: %(default)s)"
    )
    given, overrides = options.parse_known_args()
    cfg = composed(overrides)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    recipe = OmegaConf.to_container(cfg.tracker, resolve=True)
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    settings = [(int(w), int(b)) for w in given.workers.split(",") for b in given.lockstep.split(",")]
    seconds: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        read = partial(read_tracker, Checkpoint(build_tracker(recipe), recipe).save(folder / "tracker.safetensors"))
        for repeat in range(given.repeats):
            for workers, lockstep in settings:
                runner = Runner([cfg.device], workers, lockstep, ahead=cfg.runner.ahead)
                start = time.perf_counter()
                runner.run(read, benchmark.sequences, folder / f"{workers}-{lockstep}-{repeat}")
                seconds[workers, lockstep].append(time.perf_counter() - start)
        tracks = {
            setting: np.concatenate(
                [read_boxes(folder / f"{setting[0]}-{setting[1]}-0", s) for s in benchmark.sequences]
            )
            for setting in settings
        }
    frames = int(benchmark.sequences.lengths.sum())
    table = Table(
        title=f"{cfg.tracker._target_}, {cfg.scale}, {cfg.device}, {given.threads} threads: {len(benchmark.sequences)} "
        f"sequences, {frames} frames; median of {given.repeats} runs in turns"
    )
    for column in ("workers", "lockstep", "seconds", "frames/s", "times faster", "largest difference of boxes (px)"):
        table.add_column(column, justify="right")
    base = statistics.median(seconds[settings[0]])
    for setting, taken in seconds.items():
        median = statistics.median(taken)
        difference = np.abs(tracks[setting] - tracks[settings[0]]).max()
        row = (f"{median:.1f}", f"{frames / median:.0f}", f"{base / median:.2f}", f"{difference:.3f}")
        table.add_row(*map(str, setting), *row)
    Console().print(table)


if __name__ == "__main__":
    main()
