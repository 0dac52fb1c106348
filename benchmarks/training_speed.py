"""Measures training steps per second as the ways to speed them up are switched on one after the other.

python benchmarks/training_speed.py tracker=ostrack
python benchmarks/training_speed.py --device cuda --compile max-autotune tracker=ostrack scale=full datamodule=scenes
python benchmarks/training_speed.py --rows float32,bf16 --peak 0.1,0.1 tracker=stark

A step is forward, loss, backward, clipping and AdamW on one batch that is on the device already. Each row has what the
rows above have, and a network of its own; after the warm-up, which compiles, all rows take turns in one process. On a
GPU a step ends when the GPU has finished. The share of the peak is (FLOPs of forward and backward, as PyTorch counts
them in the first row) / time / (peak of the row's precision): the vendor's number for dense matrices on known GPUs, or
--peak. The wait for input is measured with the last row and the data loader, after its first batches.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import pytorch_lightning as L
import torch
from command import composed, parser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from datamodules.wait_meter import WaitMeter
from evaluation.study.speed import Speed
from trackers.base import Batch, Tracker
from trackers.checkpoints.checkpoint import build_tracker

WARMUP = 5
# Dense matrix peaks in TFLOP/s from the vendor's data sheets: float32 outside of the tensor cores, bfloat16 in them.
PEAKS = {"A100": (19.5, 312), "H100 80GB HBM3": (67, 989), "H200": (67, 989), "L40S": (91.6, 362)}


@dataclass(frozen=True)
class Way:
    """How a row computes its steps."""

    bf16: bool
    fused: bool
    speed: Speed


def main() -> None:
    """Prints a table with one row per way."""
    options = parser(__doc__)
    options.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    options.add_argument("--steps", type=int, default=30, help="timed steps of each row (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options.add_argument("--compile", default="default", help="mode of torch.compile (default: %(default)s)")
    options.add_argument("--rows", help="rows that are measured, separated by commas (default: all)")
    options.add_argument("--peak", help="TFLOP/s of the device in float32 and bfloat16, e.g. 19.5,312")
    given, overrides = options.parse_known_args()
    torch.set_num_threads(given.threads)
    cfg = composed(overrides)
    data = instantiate(cfg.datamodule, device_batch_size=None)
    batch = {name: value.to(given.device) for name, value in next(iter(data.train_dataloader())).items()}
    known = ways(given.compile)
    chosen = given.rows.split(",") if given.rows else list(known)
    with ExitStack() as stack:
        steps = {name: step_of(cfg, known[name], given.device, stack) for name in chosen}
        with FlopCounterMode(display=False) as counter:
            steps[chosen[0]](batch)
        times = measure(steps, batch, given.steps)
        meter = WaitMeter()
        loader = islice(data.train_dataloader(), given.steps)
        for i, cpu_batch in enumerate(meter.measure(loader)):
            steps[chosen[-1]]({name: value.to(given.device) for name, value in cpu_batch.items()})
            if i == WARMUP:  # the meter counts a batch when the next one is asked for
                meter.waited = meter.worked = 0.0
    peaks = tuple(map(float, given.peak.split(","))) if given.peak else known_peaks(given.device)
    table = Table(
        title=f"{cfg.tracker._target_}, {cfg.scale}, batch {cfg.datamodule.batch_size}, {device_name(given.device)}, "
        f"{given.threads} threads; median of {given.steps} steps, in turns",
        caption=f"{counter.get_total_flops() / 1e9:.2f} GFLOPs a step; waiting for input "
        f"{meter.waited / (meter.waited + meter.worked):.0%} of the time, with {given.steps - WARMUP} batches",
    )
    for column in ("row", "steps/s", "samples/s", "over the first", "share of the peak"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for name, seconds in times.items():
        rate = counter.get_total_flops() / seconds / 1e12
        share = f"{rate / peaks[known[name].bf16]:.1%}" if peaks else "N/A"
        speedup = times[chosen[0]] / seconds
        table.add_row(name, f"{1 / seconds:.2f}", f"{cfg.datamodule.batch_size / seconds:.0f}", f"{speedup:.2f}", share)
    Console(width=110).print(table)


def ways(mode: str) -> dict[str, Way]:
    """Returns the rows; each has what the rows before it have."""
    return {
        "float32": Way(bf16=False, fused=False, speed=Speed()),
        "fused": Way(bf16=False, fused=True, speed=Speed()),
        "bf16": Way(bf16=True, fused=True, speed=Speed()),
        "channels_last": Way(bf16=True, fused=True, speed=Speed(channels_last=True)),
        "compile": Way(bf16=True, fused=True, speed=Speed(mode, channels_last=True)),
    }


def step_of(cfg: DictConfig, way: Way, device: str, stack: ExitStack) -> Callable[[Batch], None]:
    """Returns a function that takes a training step with a network of its own."""
    L.seed_everything(cfg.seed, verbose=False)
    tracker: Tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)).train().to(device)
    stack.enter_context(way.speed.applied(tracker.network, gated=False))
    tracker.setup("fit")
    trained = [p for p in tracker.network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, tracker.recipe.lr, fused=way.fused)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=way.bf16, cache_enabled=False):
            loss = tracker.losses(batch)["total"]
        loss.backward()
        if tracker.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(trained, tracker.recipe.clip)
        optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return step


def measure(steps: dict[str, Callable[[Batch], None]], batch: Batch, count: int) -> dict[str, float]:
    """Returns the median seconds of a step for each row."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for run in track(range(WARMUP + count), description="stepping"):
        for name, step in steps.items():
            start = time.perf_counter()
            step(batch)
            if run >= WARMUP:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def device_name(device: str) -> str:
    """Returns the name of a GPU, or "CPU"."""
    return torch.cuda.get_device_name(device) if device != "cpu" else "CPU"


def known_peaks(device: str) -> tuple[float, float] | None:
    """Returns the peaks of the device in float32 and bfloat16, TFLOP/s; None for an unknown one."""
    return next((peaks for name, peaks in PEAKS.items() if name in device_name(device)), None)


if __name__ == "__main__":
    main()
