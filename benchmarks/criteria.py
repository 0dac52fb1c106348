"""Compares criteria by the accuracy right after the cut, before any fine-tuning.

python benchmarks/criteria.py tracker=ostrack
python benchmarks/criteria.py --methods taylor,random --ratios 0.75,0.5 --seeds 0,1,2 tracker=dimp

For every seed a tiny parent is trained from random weights on the synthetic set (a cached stage). All criteria that
rank by gradients or learned gates see the same batches, while the weights stay constant. Then the network is cut to
each ratio, with the scope and the floor of the method's configuration, and the child is scored without fine-tuning.

The score is the mean overlap (IoU) with the true box of the next frame, where the search region is placed around the
true box of the present frame, over all frames of the synthetic val set. Unlike AO, it does not depend on the moment at
which a tracker loses its target.
"""

import copy
import statistics
import tempfile
from collections.abc import Iterator

import numpy as np
import pytorch_lightning as L
import torch
from command import composed, parser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from datamodules.sequences.sequence import Sequence
from evaluation.study.job import Job
from evaluation.study.parent_source import ParentSource
from evaluation.study.stage import ensure
from evaluation.study.stage_maker import CHECKPOINT
from evaluation.tracking.metrics.geometry import overlaps
from pruning.pruner import Pruner
from trackers.base import Batch, Tracker
from trackers.checkpoints.checkpoint import load_checkpoint
from trackers.online import OnlineTracker

METHODS = "slim,network_slimming,chipnet,magnitude,taylor,fisher,depth,random"


def main() -> None:
    """Prints a table with one row per method and one column per ratio."""
    options = parser(__doc__)
    options.add_argument("--methods", default=METHODS, help="choices of pruning= (default: %(default)s)")
    options.add_argument("--ratios", default="0.9,0.75,0.5,0.25", help="fractions kept (default: %(default)s)")
    options.add_argument("--seeds", default="0,1,2", help="seeds of the study (default: %(default)s)")
    options.add_argument("--steps", type=int, default=100, help="batches that the criteria see (default: %(default)s)")
    given, overrides = options.parse_known_args()
    torch.set_num_threads(1)
    methods, ratios = given.methods.split(","), [float(r) for r in given.ratios.split(",")]
    scores: dict[tuple[str, float], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in given.seeds.split(","):
            common = [f"seed={seed}", "ratio=0.5", "logger=none", f"paths.job={folder}", "job.tracker=null", *overrides]
            job = as_job(composed(["job.method=none", *common]))
            parent = load_checkpoint(ensure(job.graph["parent"], job.stages).folder / CHECKPOINT).tracker
            scores.setdefault(("parent", 1.0), []).append(overlap(parent, job.maker.benchmark.sequences))
            batches = draw(job.cfg, given.steps)
            for method in track(methods, description=f"seed {seed}"):
                cfg = composed([f"pruning={method}", *common])
                for ratio, child in children(cfg, parent, batches, ratios):
                    score = float("nan") if child is None else overlap(child, job.maker.benchmark.sequences)
                    scores.setdefault((method, ratio), []).append(score)
    _print(scores, methods, ratios, given.seeds)


def as_job(cfg: DictConfig) -> Job:
    """Returns the job of a composed configuration, of which the benchmark needs the parent stage."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    return Job(cfg, ParentSource.from_checkpoint(cfg.checkpoint))


def draw(cfg: DictConfig, steps: int) -> list[Batch]:
    """Returns the first training batches of a seed."""
    L.seed_everything(cfg.seed, verbose=False)
    loader = iter(instantiate(cfg.datamodule, workers=0).train_dataloader())
    return [next(loader) for _ in range(steps)]


def children(
    cfg: DictConfig, parent: Tracker, batches: list[Batch], ratios: list[float]
) -> Iterator[tuple[float, Tracker | None]]:
    """Yields each ratio with its child, or with None if the ratio is out of reach of the method."""
    ranked = None
    for ratio in ratios:
        if ranked is None or cfg.pruning.criterion._target_.endswith("ChipNet"):  # ChipNet learns for one ratio
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
    """Returns the tracker with gates, and a pruner whose criterion has seen the batches; weights stay constant."""
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
    """Returns the mean IoU one frame after a true box."""
    online, ious = OnlineTracker(tracker), []
    for sequence in sequences:
        image, boxes = sequence.image(0), []
        online.init(image, tuple(sequence.boxes[0]))
        for i in range(1, len(sequence)):
            online.box = tuple(sequence.boxes[i - 1])
            boxes.append(online.update(sequence.image(i))[0])
        ious.append(overlaps(np.array(boxes), sequence.boxes[1:], (image.shape[1], image.shape[0])))
    return float(np.concatenate(ious).mean())


def _print(scores: dict[tuple[str, float], list[float]], methods: list[str], ratios: list[float], seeds: str) -> None:
    table = Table(title=f"mean overlap one frame later, synthetic val; mean ± standard deviation over seeds {seeds}")
    table.add_column("method")
    for ratio in (1.0, *ratios):
        table.add_column(f"{ratio:g}", justify="right")
    table.add_row("parent", _mean_and_deviation(scores["parent", 1.0]))
    for method in methods:
        table.add_row(method, "", *(_mean_and_deviation(scores[method, ratio]) for ratio in ratios))
    Console().print(table)


def _mean_and_deviation(values: list[float]) -> str:
    if any(v != v for v in values):
        return "out of reach"
    return f"{statistics.mean(values):.3f} ± {statistics.pstdev(values):.3f}"


if __name__ == "__main__":
    main()
