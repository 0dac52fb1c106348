"""Which criterion finds the units that matter: accuracy right after the cut, before any fine-tuning.

python benchmarks/criteria.py tracker=ostrack
python benchmarks/criteria.py --methods taylor,random --ratios 0.75,0.5 --seeds 0,1,2 tracker=dimp

For every seed a tiny parent is trained from nothing on the synthetic set (cached like any stage). A criterion that
ranks by gradients or learned gates gets the same batches, and weights do not move. Then units are cut to each ratio, by
the scope and floors of its configuration, and the child is scored as it is.

The score is the mean overlap (IoU) with the true box one frame later, searched for around the true box of the frame
before, over all frames of the synthetic val set: unlike AO, it has no luck of runs that are lost early or late.
"""

import copy
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytorch_lightning as L
import torch
from command import composed, parser
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from datamodules.sequences.sequence import Sequence
from evaluation.study.job import Job
from evaluation.study.stage import ensure
from evaluation.study.stage_maker import CHECKPOINT
from evaluation.tracking.metrics.geometry import overlaps
from pruning.pruner import Pruner
from trackers.base import Batch, Tracker
from trackers.checkpoints.checkpoint import load_checkpoint
from trackers.online import OnlineTracker

METHODS = "slim,network_slimming,chipnet,magnitude,taylor,fisher,depth,random"


def main() -> None:
    """Prints a row a method and a column a ratio."""
    options = parser(__doc__)
    options.add_argument("--methods", default=METHODS, help="choices of pruning= (default: %(default)s)")
    options.add_argument("--ratios", default="0.9,0.75,0.5,0.25", help="fractions kept (default: %(default)s)")
    options.add_argument("--seeds", default="0,1,2", help="of parents, batches and lots (default: %(default)s)")
    options.add_argument("--steps", type=int, default=100, help="batches to rank by (default: %(default)s)")
    given, overrides = options.parse_known_args()
    torch.set_num_threads(1)
    methods, ratios = given.methods.split(","), [float(r) for r in given.ratios.split(",")]
    scores: dict[tuple[str, float], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in given.seeds.split(","):
            common = [f"seed={seed}", "ratio=0.5", "logger=none", f"paths.job={folder}", *overrides]
            job = Job(composed(common), Path(folder))
            parent = load_checkpoint(ensure(job.graph["parent"], job.stages).folder / CHECKPOINT).tracker
            scores.setdefault(("parent", 1.0), []).append(overlap(parent, job.making.benchmark))
            batches = draw(job.cfg, given.steps)
            for method in track(methods, description=f"seed {seed}"):
                cfg = composed([f"pruning={method}", *common])
                for ratio, child in children(cfg, parent, batches, ratios):
                    score = float("nan") if child is None else overlap(child, job.making.benchmark)
                    scores.setdefault((method, ratio), []).append(score)
    _print(scores, methods, ratios, given.seeds)


def draw(cfg: DictConfig, steps: int) -> list[Batch]:
    """The first training batches of a seed."""
    L.seed_everything(cfg.seed, verbose=False)
    loader = iter(instantiate(cfg.datamodule, workers=0).train_dataloader())
    return [next(loader) for _ in range(steps)]


def children(
    cfg: DictConfig, parent: Tracker, batches: list[Batch], ratios: list[float]
) -> Iterator[tuple[float, Tracker | None]]:
    """Yields (ratio, child), by the method of `cfg`; None where the ratio is out of its reach."""
    ranked = None
    for ratio in ratios:
        if ranked is None or cfg.pruning.criterion._target_.endswith("ChipNet"):  # it learns for one ratio
            ranked = rank(cfg, copy.deepcopy(parent), batches, ratio)
        tracker, pruner = copy.deepcopy(ranked)
        try:
            pruner.update(ratio)
        except ValueError:
            yield ratio, None
            continue
        pruner.finish([tracker.example_inputs() for _ in range(3)])
        yield ratio, tracker


def rank(cfg: DictConfig, tracker: Tracker, batches: list[Batch], ratio: float) -> tuple[Tracker, Pruner]:
    """A tracker with gates, and all that its criterion learns from some batches while weights stand still."""
    pruner = instantiate(cfg.pruning, ratio=ratio)
    tracker.eval()
    pruner.attach(tracker.network, tracker.groups(), tracker.frame_inputs)
    criterion, gates = pruner.criterion, pruner.gates
    criterion.start(gates, pruner.cost, ratio, len(batches))
    for step, batch in enumerate(batches if criterion.needs_gradients else []):
        criterion.before_step(gates, step / len(batches))
        gates.fold()
        tracker.losses(batch)["total"].backward()
        gates.unfold()
        criterion.after_step(gates)
        gates.values.grad = None
        tracker.zero_grad()
    return tracker, pruner


@torch.inference_mode()
def overlap(tracker: Tracker, sequences: list[Sequence]) -> float:
    """Mean IoU one frame after the truth."""
    online, found = OnlineTracker(tracker), []
    for sequence in sequences:
        image, boxes = sequence.image(0), []
        online.init(image, tuple(sequence.boxes[0]))
        for i in range(1, len(sequence)):
            online.box = tuple(sequence.boxes[i - 1])
            boxes.append(online.update(sequence.image(i))[0])
        found.append(overlaps(np.array(boxes), sequence.boxes[1:], (image.shape[1], image.shape[0])))
    return float(np.concatenate(found).mean())


def _print(scores: dict[tuple[str, float], list[float]], methods: list[str], ratios: list[float], seeds: str) -> None:
    table = Table(title=f"mean overlap one frame later, synthetic val; mean ± standard deviation over seeds {seeds}")
    table.add_column("method")
    for ratio in (1.0, *ratios):
        table.add_column(f"{ratio:g}", justify="right")
    table.add_row("parent", _spread(scores["parent", 1.0]))
    for method in methods:
        table.add_row(method, "", *(_spread(scores[method, ratio]) for ratio in ratios))
    Console().print(table)


def _spread(values: list[float]) -> str:
    if any(v != v for v in values):
        return "out of reach"
    return f"{statistics.mean(values):.3f} ± {statistics.pstdev(values):.3f}"


if __name__ == "__main__":
    main()
