"""Compares this project with torch-pruning: cost, latency, time to prune and error of OSTracks of the same size.

pip install --no-deps torch-pruning  # 1.6.1; only this script uses it
python benchmarks/against_torch_pruning.py
python benchmarks/against_torch_pruning.py --ranking uniform --ratios 0.25 tracker=ostrack_384

Nothing is trained: weights are random, and random gates are multiplied into them, so that units have different norms.
Accuracy is not measured. Candidate elimination is off, as the tracing of torch-pruning does not support its indices.
Both sides rank units by the norms of all weights of their group and keep multiples of --round-to; ours is also shown
without rounding. The ratio is the fraction of the parameters that is kept. torch-pruning takes a fraction of the
channels instead, which is bisected until its number of parameters is as close to ours as possible.

Time to prune is the median over several runs, from a network in memory to a smaller network. Ours includes the declared
groups, the masks and the comparison of three masked with three cut forwards; that of torch-pruning includes its traced
graph and no comparison. The error of torch-pruning is the difference between its network and the dense network under
our mask of the same units. The error is large if less than about half of the width is kept: torch-pruning 1.6.1 then
permutes weights and biases of LayerNorms, as it takes the kept entries from a set and drops the result of sorting them.
With the entries in order, its error is as small as ours.
"""

import copy
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pytorch_lightning as L
import torch
import torch_pruning
from command import composed, parser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.cost import count_macs, count_params
from pruning.cost.turns import medians
from pruning.gates import Gates
from pruning.plan import Plan
from trackers.checkpoints.checkpoint import build_tracker
from trackers.layers.attention import Attention
from trackers.ostrack.network import OSTrackNetwork

DEFAULTS = ("tracker=ostrack", "scale=full", "tracker.elimination=null", "pruning=magnitude")
Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Child:
    """Cut network, the seconds that the cut took, and the relative error against the masked network."""

    network: nn.Module
    seconds: float = 0.0
    error: float = 0.0


def main() -> None:
    """Prints a table with the dense network and its children, ratio by ratio."""
    options = parser(__doc__)
    options.add_argument("--ratios", default="0.5,0.25,0.1", help="fractions kept (default: %(default)s)")
    options.add_argument("--round-to", type=int, default=8, help="divisor of all widths (default: %(default)s)")
    options.add_argument(
        "--ranking",
        default="isomorphic",
        choices=("isomorphic", "global", "uniform"),
        help="units that compete in torch-pruning: those of layers of the same type and place, all units, or those "
        "of one layer, as in its examples for ViTs (default: %(default)s)",
    )
    options.add_argument("--tries", type=int, default=8, help="steps of the bisection (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    given, overrides = options.parse_known_args()
    torch.set_num_threads(given.threads)
    cfg = composed([*DEFAULTS, *overrides])
    L.seed_everything(cfg.seed, verbose=False)
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)).eval()
    dense = _vary(tracker.network)
    draws = [tracker.example_inputs() for _ in range(3)]

    made = {"dense": Child(dense)}
    for ratio in track([float(r) for r in given.ratios.split(",")], description="cutting"):
        made[f"{ratio:g} ours"] = ours(cfg, dense, draws, ratio, 1)
        rounded = made[f"{ratio:g} ours, by {given.round_to}"] = ours(cfg, dense, draws, ratio, given.round_to)
        made[f"{ratio:g} torch-pruning, by {given.round_to}"] = theirs(
            dense, draws, count_params(rounded.network), given.round_to, given.ranking, given.tries
        )
    frame = tracker.frame_inputs()
    clocks = medians({name: partial(child.network, **frame) for name, child in made.items()})
    _print(made, clocks, frame, f"{cfg.tracker._target_}, {given.threads} threads; torch-pruning: {given.ranking}")


def ours(
    cfg: DictConfig, dense: OSTrackNetwork, draws: Sequence[Inputs], ratio: float, round_to: int, runs: int = 3
) -> Child:
    """Returns our child with the given fraction of the parameters."""
    seconds = []
    for _ in range(runs):
        network = copy.deepcopy(dense)
        start = time.perf_counter()
        pruner = instantiate(cfg.pruning, ratio=ratio, round_to=round_to)
        pruner.attach(network, network.groups())
        pruner.update()
        error = pruner.finish(draws)["masked_vs_compacted"]
        seconds.append(time.perf_counter() - start)
    return Child(network, statistics.median(seconds), error)


def theirs(
    dense: OSTrackNetwork, draws: Sequence[Inputs], params: int, round_to: int, ranking: str, tries: int
) -> Child:
    """Returns the child of torch-pruning whose number of parameters is closest to `params`."""
    low, high, seconds, best = 0.0, 1.0, [], None
    for _ in range(tries):
        network = _traceable(dense)
        start = time.perf_counter()
        with warnings.catch_warnings(action="ignore"):  # warnings of torch about sizes of outputs
            pruner = torch_pruning.pruner.BasePruner(
                network,
                draws[0],
                torch_pruning.importance.GroupMagnitudeImportance(),
                pruning_ratio=(low + high) / 2,
                global_pruning=ranking != "uniform",
                isomorphic=ranking == "isomorphic",
                round_to=round_to,
                num_heads={a.qkv: a.heads for a in network.modules() if isinstance(a, PlainAttention)},
                # Parameters outside of layers with the dimension to cut: a list, although the documentation says dict.
                unwrapped_parameters=[(p, 2) for p in (network.backbone.pos_embed_z, network.backbone.pos_embed_x)],
                # The outputs of the head have a fixed meaning, so its last layers keep all of them.
                ignored_layers=[m for m in network.box_head.children() if isinstance(m, nn.Conv2d)],
                output_transform=lambda maps: list(maps.values()),
            )
            pruner.step()
        seconds.append(time.perf_counter() - start)
        count = count_params(network)
        low, high = (low, (low + high) / 2) if count < params else ((low + high) / 2, high)
        if best is None or abs(count - params) < abs(count_params(best[0]) - params):
            best = network, _plan(dense, pruner.pruning_history())
    network, plan = best
    return Child(network, statistics.median(seconds), _error(dense, plan, network, draws))


class PlainAttention(nn.Module):
    """`Attention` with the same weights in a form that torch-pruning can trace.

    torch-pruning finds layers that are called as modules, and finds q, k and v in one layer if they are unbound as in
    timm. All heads have the same width, which torch-pruning preserves. The softmax scale is that of the dense network:
    with the scale of the narrower heads, as in the example of the library, the child would compute something else.
    """

    def __init__(self, attention: Attention):
        super().__init__()
        self.qkv, self.proj, self.scale = attention.qkv, attention.proj, attention.scale
        self.heads = len(attention.widths)

    def forward(self, x: Tensor, **defaults: object) -> Tensor:
        """Maps tokens (B, N, C) to tokens (B, N, C)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2))


def _traceable(dense: OSTrackNetwork) -> OSTrackNetwork:
    """Returns a copy that torch-pruning can trace."""
    network = copy.deepcopy(dense)
    for block in network.backbone.blocks:
        block.attn = PlainAttention(block.attn)
    return network


@torch.no_grad()
def _vary(network: OSTrackNetwork) -> OSTrackNetwork:
    """Gives units different norms, and moves vectors away from their initial 0 and 1, which would hide errors."""
    gates = Gates(network, network.groups())
    gates.values.data.uniform_(0.5, 1.5)
    gates.fold_permanently()
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor += 0.2 * torch.rand_like(tensor)
    return network


def _plan(dense: OSTrackNetwork, history: Sequence[tuple[str, bool, Sequence[int]]]) -> Plan:
    """Returns the plan of a cut by torch-pruning, whose history lists one layer of each of its groups."""
    removed = {(f"{layer}.weight", 0 if outputs else 1): set(units) for layer, outputs, units in history}
    kept = {}
    for group in dense.groups():
        units = next((removed.pop((s.path, s.dim)) for s in group.slices if (s.path, s.dim) in removed), set())
        kept[group.name] = tuple(unit for unit in range(group.size) if unit not in units)
    if removed:
        raise RuntimeError(f"torch-pruning has cut tensors that no group declares: {sorted(removed)}")
    return Plan(kept)


@torch.no_grad()
def _error(dense: OSTrackNetwork, plan: Plan, network: nn.Module, draws: Sequence[Inputs]) -> float:
    """Returns the largest difference from the masked dense network, relative to its output; median over the draws."""
    gates = Gates(dense, dense.groups())
    gates.close(plan)
    with gates.folded():
        masked = [dense(**draw) for draw in draws]
    pairs = [(m, network(**draw)) for m, draw in zip(masked, draws, strict=True)]
    return statistics.median(max(float((c[k] - m[k]).abs().max() / m[k].abs().max()) for k in m) for m, c in pairs)


def _print(made: Mapping[str, Child], clocks: Mapping[str, float], frame: Inputs, title: str) -> None:
    table = Table("kept, by whom", title=title)
    columns = ("params", "of dense", "MACs (G)", "latency (ms)", "times faster", "to prune (s)", "masked vs compacted")
    for column in columns:
        table.add_column(column, justify="right")
    dense = made["dense"].network
    for name, child in made.items():
        params, ms = count_params(child.network), clocks[name]
        cells = [
            f"{params:,}",
            f"{params / count_params(dense):.2%}",
            f"{count_macs(child.network, frame).total / 1e9:.2f}",
            f"{ms:.1f}",
            f"{clocks['dense'] / ms:.2f}",
        ]
        cells += ["-", "-"] if name == "dense" else [f"{child.seconds:.1f}", f"{child.error:.1e}"]
        table.add_row(name, *cells, end_section=name == "dense" or "torch-pruning" in name)
    Console().print(table)


if __name__ == "__main__":
    main()
