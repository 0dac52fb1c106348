"""Calculates how long the full-scale experiments read data and train: a table in Markdown.

python benchmarks/hours.py
python benchmarks/hours.py --experiments ostrack_got10k,superdimp --gpus 1,4 --cores 8

Two kinds of numbers stand side by side. Hours of input follow from frames per second of one core, which
training_input.py has measured (see benchmarks/README.md); workers are assumed not to slow each other down. Hours of
training are an ESTIMATE, which no run has checked: operations of one real training step, forward and backward, which
PyTorch's FlopCounterMode counts, over the peak of a GPU and an assumed share of it. Candidate elimination and pruning
make training cheaper than that. Reading and training overlap, so the longer of the two counts.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from command import composed
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from trackers.checkpoints.checkpoint import build_tracker

# Frames per second of one core, from 1920 x 1080 JPEG files, exact crops: benchmarks/README.md, "Training input", has
# samples of two frames (OSTrack, STARK-S50) and of six (SuperDiMP). STARK-ST50 and Mini-STARK have three in a sample.
FRAMES_PER_SECOND = {"OSTrack": 2 * 69.6 * 1.40, "STARK": 2 * 68.0 * 1.36, "DiMP": 6 * 21.0 * 1.25}
# Operations per second of one GPU: the peak of an A100 by its data sheet, and the share of it that is ASSUMED.
RATES = {"float32 (estimate)": 19.5e12 * 0.5, "bf16 (estimate)": 312e12 * 0.3}
EXPERIMENTS = {  # the trackers of each experiment; "" for the one that it chooses itself
    "icassp2023": ("ostrack", "ostrack_384", "stark_mini", "dimp"),
    "ostrack_got10k": ("", "ostrack_384"),
    "ostrack_ep300": ("",),
    "stark_stage1": ("",),
    "stark_stage2": ("",),
    "superdimp": ("",),
}
STAGES = ("parent", "sparsity", "child")


@dataclass(frozen=True)
class Training:
    """One stage of an experiment.

    Attributes:
        name: experiment, tracker and stage.
        steps, batch: optimizer steps, and samples in each of them.
        validated: samples of all validations together.
        rate: samples that one core loads in a second.
        operations: floating-point operations of the training on one sample, forward and backward.
    """

    name: str
    steps: int
    batch: int
    validated: int
    rate: float
    operations: float

    def input_hours(self, workers: int) -> float:
        """Returns the hours in which some workers load all samples."""
        return (self.steps * self.batch + self.validated) / (self.rate * workers) / 3600

    def training_hours(self, operations_per_second: float) -> float:
        """Returns the estimated hours of all training steps and validations; a validation has no backward."""
        samples = self.steps * self.batch + self.validated / 3
        return samples * self.operations / operations_per_second / 3600


def main() -> None:
    """Prints a table with one row per stage."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--experiments", default=",".join(EXPERIMENTS), help="experiments (default: all)")
    options.add_argument("--gpus", default="1,8", help="numbers of GPUs (default: %(default)s)")
    options.add_argument("--cores", type=int, default=16, help="CPU cores for each GPU (default: %(default)s)")
    given = options.parse_args()
    gpus, workers = [int(number) for number in given.gpus.split(",")], given.cores - 1  # see datamodules/workers.py
    numbers = " / ".join(map(str, gpus))
    columns = ["experiment, stage", "steps x batch", "samples (validation)", "input, 1 worker"]
    columns += [f"input, {numbers} GPUs", *(f"{name}, {numbers} GPUs" for name in RATES)]
    print("| " + " | ".join(columns) + " |\n|---|---|" + "---:|" * (len(columns) - 2))
    for experiment in given.experiments.split(","):
        for row in (row for tracker in EXPERIMENTS[experiment] for row in trainings(experiment, tracker)):
            samples = f"{row.steps * row.batch / 1e6:.1f} M ({row.validated / 1e6:.2f} M)"
            cells = [row.name, f"{row.steps:,} x {row.batch}", samples, _text(row.input_hours(1))]
            hours = [[row.input_hours(n * workers) for n in gpus]]
            hours += [[row.training_hours(n * rate) for n in gpus] for rate in RATES.values()]
            shared = [row.batch % n == 0 for n in gpus]  # other numbers of GPUs are refused
            cells += [" / ".join(_text(h) if s else "-" for h, s in zip(each, shared, strict=True)) for each in hours]
            print("| " + " | ".join(cells) + " |")


def _text(hours: float) -> str:
    return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"


def trainings(experiment: str, tracker: str) -> Iterator[Training]:
    """Yields the stages of an experiment that train."""
    chosen = [f"experiment={experiment}", "checkpoint=null", *([f"tracker={tracker}"] if tracker else [])]
    cfg = composed(chosen)
    batch, family = cfg.datamodule.batch_size, cfg.tracker._target_.rpartition(".")[2]
    frames = sum(cfg.tracker[crops].get("count", 1) for crops in ("template", "search"))
    rate = FRAMES_PER_SECOND[family] / frames
    for stage in STAGES:
        steps = cfg.stages[stage].steps
        if steps:
            name = f"`{experiment}`, {tracker} {stage}".replace("  ", " ")
            validated = steps // (cfg.datamodule.samples_per_epoch // batch) * cfg.datamodule.val_samples
            yield Training(name, steps, batch, validated, rate, operations_of(tuple(chosen)))


@cache
def operations_of(chosen: tuple[str, ...]) -> float:
    """Returns the operations of a training step, forward and backward, divided by its samples."""
    cfg: DictConfig = composed([*chosen, "run=miniature"])
    instantiate(cfg.fake_data, _convert_="all").write()
    tracker = build_tracker(OmegaConf.to_container(cfg.tracker, resolve=True)).train()
    tracker.setup("fit")  # freezes what is not trained
    samples = cfg.datamodule.batch_size
    batch = next(iter(instantiate(cfg.datamodule, device_batch_size=samples, workers=0).train_dataloader()))
    tracker.on_train_batch_start(batch, 0)  # of the first epoch, in which OSTrack keeps all candidates
    with FlopCounterMode(display=False) as counter:
        tracker.losses(batch)["total"].backward()
    return counter.get_total_flops() / samples


if __name__ == "__main__":
    main()
