"""Measures parameters, MACs and latency of children, and their difference from the masked networks.

python benchmarks/children.py tracker=ostrack scale=full
python benchmarks/children.py --ratios 1,0.5,0.1 --threads 1 tracker=ostrack_384 scale=full tracker.elimination=null

Nothing is trained: weights are random, and random gates rank the units, so that heads of all widths remain. Sizes,
times and errors do not depend on the weights; accuracy is not measured.
"""

from typing import Any

import pytorch_lightning as L
import torch
from command import composed, parser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from evaluation.export.timing.network_latency import latencies
from pruning.cost import count_macs, count_params
from pruning.cost.turns import medians
from pruning.plan import Plan
from trackers.base import Tracker
from trackers.checkpoints.checkpoint import build_tracker


def main() -> None:
    """Prints a table with one row per ratio."""
    options = parser(__doc__)
    options.add_argument("--ratios", default="1,0.5,0.25,0.1,0.01", help="fractions kept (default: %(default)s)")
    options.add_argument("--threads", type=int, default=2, help="threads of torch (default: %(default)s)")
    options.add_argument("--device", default="cpu", help="device on which latency is measured (default: %(default)s)")
    given, overrides = options.parse_known_args()
    torch.set_num_threads(given.threads)
    cfg = composed(overrides)
    ratios = [float(r) for r in given.ratios.split(",")]
    made = {ratio: child(cfg, ratio) for ratio in track(ratios, description="cutting")}
    clocks = latencies({str(ratio): tracker for ratio, (tracker, _) in made.items()}, given.device)
    _print(cfg, made, clocks)
    parts = {
        (ratio, part): call for ratio, (tracker, _) in made.items() for part, call in tracker.timed_parts().items()
    }
    if parts:
        _print_parts(medians(parts, given.device))


def child(cfg: DictConfig, ratio: float) -> tuple[Tracker, float]:
    """Returns the cut tracker, and the difference between its outputs and those of the masked network."""
    tracker, _, difference = cut(cfg, ratio)
    return tracker, difference


def cut(cfg: DictConfig, ratio: float) -> tuple[Tracker, Plan, float]:
    """Returns the cut tracker, its plan, and the difference between its outputs and those of the masked network."""
    L.seed_everything(cfg.seed, verbose=False)
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)).eval()
    _disturb(tracker.network)
    pruning = instantiate(cfg.pruning, ratio=ratio)
    pruning.attach(tracker.network, tracker.groups(), tracker.frame_inputs)
    pruning.gates.values.data.uniform_(0.5, 1.5)
    pruning.update(ratio)
    draws = [tracker.example_inputs() for _ in range(3)]
    difference = pruning.finish(draws)["masked_vs_compacted"]
    return tracker, pruning.plan, difference


@torch.no_grad()
def _disturb(network: nn.Module) -> None:
    """Moves biases, norms and statistics away from their initial 0 and 1, which would hide errors."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and tensor.dim() == 1:
            noise = torch.rand_like(tensor) - 0.5
            tensor += noise if name.endswith("running_var") else 0.2 * noise


def _print(cfg: DictConfig, made: dict[float, tuple[Tracker, float]], clocks: dict[str, dict[str, Any]]) -> None:
    first = next(iter(clocks.values()))
    title = f"{cfg.tracker._target_}, {cfg.scale}; {first['protocol']}, {first['threads']} threads"
    table = Table(title=title)
    for column in ("ratio", "params", "MACs (G)", "latency (ms)", "times faster", "masked vs compacted"):
        table.add_column(column, justify="right")
    for ratio, (tracker, error) in made.items():
        macs, ms = count_macs(tracker.network, tracker.frame_inputs()).total, clocks[str(ratio)]["ms"]
        row = (f"{ratio:g}", f"{count_params(tracker.network):,}", f"{macs / 1e9:.3f}", f"{ms:.1f}")
        table.add_row(*row, f"{first['ms'] / ms:.2f}", f"{error:.1e}" if ratio < 1 else "-")
    Console().print(table)


def _print_parts(times: dict[tuple[float, str], float]) -> None:
    names = list(dict.fromkeys(part for _, part in times))
    table = Table(title="milliseconds of the parts, by the same protocol")
    for column in ("ratio", *names):
        table.add_column(column, justify="right")
    for ratio in dict.fromkeys(ratio for ratio, _ in times):
        table.add_row(f"{ratio:g}", *(f"{times[ratio, name]:.2f}" for name in names))
    Console().print(table)


if __name__ == "__main__":
    main()
