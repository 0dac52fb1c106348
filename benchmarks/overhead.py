"""Measures the time of a training step with pruning relative to a dense step: forward, loss, backward, optimizer.

python benchmarks/overhead.py tracker=ostrack
python benchmarks/overhead.py --methods slim,magnitude --steps 8 tracker=stark scale=full datamodule.batch_size=2
python benchmarks/overhead.py --methods gates,masks tracker=dimp

All steps take turns in one process, on the same batch of synthetic video, each with its own network and AdamW. The
sparsity step runs the hooks of the pruning callback in Lightning's order, through a whole short stage: gates, penalties
and decaying masks at every step, and an update of the mask every `pruning.every` steps, which only the mean shows.

Two rows have no criterion, no schedule and no update: `gates` has random masks of half of the units and gradients of
the gates, `masks` has the same without gradients of the gates.
"""

import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytorch_lightning as L
import torch
from command import composed, parser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pruning.gates.gates import Gates
from trackers.base import Batch
from trackers.checkpoints.checkpoint import build_tracker

WITHOUT_CRITERION = {"gates": True, "masks": False}  # by name, whether gates have gradients
WARMUP = 3


def main() -> None:
    """Prints a table with one row per method."""
    options = parser(__doc__)
    options.add_argument(
        "--methods",
        default="slim,magnitude,taylor,network_slimming,chipnet",
        help="choices of pruning=, gates or masks (default: %(default)s)",
    )
    options.add_argument("--steps", type=int, default=60, help="timed steps of each method (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    given, overrides = options.parse_known_args()
    torch.set_num_threads(given.threads)
    cfg = composed(["ratio=0.25", *overrides])
    asked = given.methods.split(",")
    methods = {m: composed(["ratio=0.25", f"pruning={m}", *overrides]) for m in asked if m not in WITHOUT_CRITERION}
    batch = next(iter(instantiate(cfg.datamodule, workers=0, device_batch_size=None).train_dataloader()))
    steps = {"dense": dense_step(cfg, batch)} | {m: sparsity_step(c, batch, given.steps) for m, c in methods.items()}
    steps |= {name: gated_step(cfg, batch, WITHOUT_CRITERION[name]) for name in asked if name in WITHOUT_CRITERION}
    times: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for run in track(range(WARMUP + given.steps), description="stepping"):
        for name, step in steps.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            step()
            if run >= WARMUP:
                times[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - cpu_start)
    _print(cfg, times, cpu, given.threads)


def dense_step(cfg: DictConfig, batch: Batch) -> Callable[[], None]:
    """Returns a function that takes a dense training step."""
    return _training(cfg, batch)[1]


def sparsity_step(cfg: DictConfig, batch: Batch, steps: int) -> Callable[[], None]:
    """Returns a function that takes a training step with pruning; the timed steps cover the whole stage."""
    tracker, train = _training(cfg, batch)
    callback = instantiate(cfg.pruning, ratio=cfg.ratio)
    trainer = SimpleNamespace(
        global_step=0,
        estimated_stepping_batches=WARMUP + steps,
        loggers=[],
        world_size=1,
        precision_plugin=None,  # nothing scales the loss
        strategy=SimpleNamespace(reduce=lambda tensor, reduce_op: tensor),
    )
    callback.on_fit_start(trainer, tracker)

    def step() -> None:
        callback.on_train_batch_start(trainer, tracker)
        train(lambda: callback.on_before_optimizer_step(trainer, tracker))
        trainer.global_step += 1

    return step


def gated_step(cfg: DictConfig, batch: Batch, gate_gradients: bool) -> Callable[[], None]:
    """Returns a function that takes a training step with random masks of half of the units, without a criterion."""
    tracker, train = _training(cfg, batch)
    gates = Gates(tracker.network, tracker.groups())
    gates.mask.bernoulli_(0.5)

    def unfold() -> None:
        gates.unfold(gate_gradients)
        gates.values.grad = None

    def step() -> None:
        gates.fold()
        train(unfold)

    return step


def _training(cfg: DictConfig, batch: Batch) -> tuple[L.LightningModule, Callable[..., None]]:
    L.seed_everything(cfg.seed, verbose=False)
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)).train()
    optimizer = torch.optim.AdamW(tracker.network.parameters(), tracker.recipe.lr, fused=True)

    def step(before_update: Callable[[], None] = lambda: None) -> None:
        optimizer.zero_grad()
        tracker.losses(batch)["total"].backward()
        before_update()
        optimizer.step()

    return tracker, step


def _print(cfg: DictConfig, times: dict[str, list[float]], cpu: dict[str, list[float]], threads: int) -> None:
    table = Table(
        title=f"{cfg.tracker._target_}, {cfg.scale}, batch {cfg.datamodule.batch_size}, float32, {threads} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}; median and mean of {len(times['dense'])} steps, in turns; the "
        "mean contains updates of the mask; CPU: median ratio of the CPU times of a turn"
    )
    for column in ("step", "median (ms)", "over dense", "mean (ms)", "over dense", "CPU over dense"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for name, values in times.items():
        cells = []
        for average in (statistics.median, statistics.mean):
            cells += [f"{1e3 * average(values):.1f}", f"{average(values) / average(times['dense']):.3f}"]
        ratios = [own / dense for own, dense in zip(cpu[name], cpu["dense"], strict=True)]
        table.add_row(name, *cells, f"{statistics.median(ratios):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
