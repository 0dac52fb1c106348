"""Measures the CPU time of scoring a benchmark, from files to scores, with this project and with the toolkits.

python benchmarks/metrics.py
python benchmarks/metrics.py --loads lasot_test --repeats 5
python benchmarks/metrics.py --loads lasot_test --pictures

The script makes files of the size of the public benchmarks in a temporary folder; they stay in the page cache. All
contenders take turns in one process, on one thread. Ours reads the annotation from the index, as eval.py does from its
second run on, and checks that no annotation file has changed; `--first-look` reads the text every time, as the others
do. The got10k toolkit is the installed one, without its plots. The other contenders are written in plain code in this
script and follow the procedures of PyTracking's analysis and of TrackingNet's development kit.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from got10k.datasets import OTB, LaSOT
from got10k.experiments import ExperimentGOT10k, ExperimentOTB
from rich.console import Console
from rich.progress import track
from rich.table import Table

from datamodules.sequences.annotations import read_labels, read_numbers
from datamodules.sequences.index import SequenceFiles, read_sequences
from datamodules.sequences.sequence import NumberedFrames, Sequence
from evaluation.tracking.metrics import GOT10k, OnePass, Protocol, TrackingNet
from evaluation.tracking.result_files import as_track, read_result

SIZE = (1280, 720)
TRACKER = "tracker"
Scores = dict[str, float]


@dataclass(frozen=True)
class Load:
    """Benchmark on disk: annotations in `data/val/<sequence>/`, results in the layout of the got10k toolkit.

    Attributes:
        root: folder of the benchmark.
        names: names of the sequences.
        frames: number of frames of each sequence.
        cache: folder of our index, None for no index.
    """

    root: Path
    names: list[str]
    frames: int
    cache: Path | None = None

    def data(self, name: str) -> Path:
        """Returns the folder of a sequence."""
        return self.root / "data" / "val" / name

    def result(self, name: str) -> Path:
        """Returns the result file of a sequence."""
        return self.root / "results" / TRACKER / f"{name}.txt"


SIZES = {"lasot_test": (280, 2500), "otb2015": (100, 590), "got10k_val": (180, 100), "trackingnet_test": (511, 441)}
DECIMALS = {"lasot_test": 0, "otb2015": 0, "got10k_val": 4, "trackingnet_test": 2}


def main() -> None:
    """Prints one table per benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--loads", default=",".join(SIZES), help="benchmarks to make and score (default: %(default)s)")
    options.add_argument("--repeats", type=int, default=3, help="runs of each contender (default: %(default)s)")
    options.add_argument("--pictures", action="store_true", help="also make the 700,000 empty picture files of LaSOT")
    options.add_argument("--first-look", action="store_true", help="ours reads the text of the annotation every time")
    given = options.parse_args()
    torch.set_num_threads(1)
    for name in given.loads.split(","):
        with tempfile.TemporaryDirectory() as folder:
            load = make_files(name, Path(folder), pictures=given.pictures or name in ("otb2015", "got10k_val"))
            if not given.first_look:
                load = replace(load, cache=load.root / "cache")
            measure(name, contenders(name, load), given.repeats)


def make_files(name: str, root: Path, pictures: bool) -> Load:
    """Writes random annotations, results with errors of a tenth of the box, labels, times and empty pictures."""
    sequences, frames = SIZES[name]
    load = Load(root, [f"video-{i + 1}" for i in range(sequences)], frames)
    rng, limits = np.random.default_rng(0), np.array(SIZE)
    lines = {value: "\n".join(str(value) for _ in range(frames)) + "\n" for value in (8, 0)}
    for sequence in track(load.names, f"making {name}"):
        folder = load.data(sequence)
        folder.mkdir(parents=True)
        sides = limits * rng.uniform(0.05, 0.3, 2) * np.exp(rng.normal(0, 0.01, (frames, 2)).cumsum(0).clip(-1, 1))
        truth = np.concatenate([limits * rng.uniform(0.2, 0.5, 2) + rng.normal(0, 2, (frames, 2)).cumsum(0), sides], 1)
        boxes = truth + 0.1 * sides[:, [0, 1, 0, 1]] * rng.normal(0, 1, (frames, 4)).clip(-3, 3)
        np.savetxt(folder / "groundtruth.txt", truth, fmt=f"%.{DECIMALS[name]}f", delimiter=",")
        for label in ("full_occlusion", "out_of_view"):
            (folder / f"{label}.txt").write_text(",".join(["0"] * frames))
        for label, value in {"cover": 8, "absence": 0, "cut_by_image": 0}.items():
            (folder / f"{label}.label").write_text(lines[value])
        (folder / "meta_info.ini").write_text(f"[METAINFO]\nresolution: {SIZE}")
        if pictures:
            (folder / "img").symlink_to(".")  # the folder of the pictures in OTB and LaSOT
            for i in range(frames):
                (folder / f"{i + 1:08d}.jpg").touch()
        for path, fmt, rows in (
            (load.result(sequence), "%.3f", boxes),
            (root / "results" / TRACKER / "times" / f"{sequence}_time.txt", "%.8f", rng.uniform(0.01, 0.1, frames)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, rows, fmt=fmt, delimiter=",")
        got10k_results = root / "results" / "GOT-10k" / TRACKER / sequence
        got10k_results.mkdir(parents=True)
        (got10k_results / f"{sequence}_001.txt").symlink_to(load.result(sequence))
        (got10k_results / f"{sequence}_time.txt").symlink_to(path)
    (root / "data" / "val" / "list.txt").write_text("\n".join(load.names))
    return load


def contenders(name: str, load: Load) -> dict[str, Callable[[], Scores]]:
    """Returns by name the functions that read all files of a benchmark and compute its scores; the first is ours."""
    if name == "got10k_val":
        return {"ours, GOT-10k": lambda: ours(load, GOT10k()), "got10k toolkit": lambda: toolkit_got10k(load)}
    if name == "trackingnet_test":
        return {"ours, TrackingNet": lambda: ours(load, TrackingNet()), "loops over frames": lambda: loops(load)}
    dataset = {"lasot_test": "lasot", "otb2015": "otb"}[name]
    labelled = dataset == "lasot"
    return {
        "ours, got10k": lambda: ours(load, OnePass("got10k", dataset)),
        "got10k toolkit": lambda: toolkit_one_pass(load, LaSOT if labelled else OTB),
        "ours, pytracking": lambda: ours(load, OnePass("pytracking", dataset)),
        "a sequence at a time": lambda: a_sequence_at_a_time(load, labelled),
    }


def measure(name: str, contenders: dict[str, Callable[[], Scores]], repeats: int) -> None:
    """Runs the contenders in turns, compares their scores and prints the median times."""
    times: dict[str, list[float]] = {contender: [] for contender in contenders}
    scores = {}
    for _ in track(range(repeats), f"scoring {name}"):
        for contender, run in contenders.items():
            start = time.process_time()
            scores[contender] = run()
            times[contender].append(time.process_time() - start)
    sequences, frames = SIZES[name]
    table = Table(title=f"{name}: {sequences} x {frames} frames; median of {repeats}, in turns, one thread")
    for column in ("contender", "CPU (s)", "over ours", "scores"):
        table.add_column(column, justify="right" if column in ("CPU (s)", "over ours") else "left")
    for contender, values in times.items():
        if contender.startswith("ours"):
            base, reference = statistics.median(values), scores[contender]
        wrong = {k: v for k, v in scores[contender].items() if not np.isclose(v, reference[k], rtol=0, atol=1e-6)}
        if wrong:
            raise SystemExit(f"{contender} disagrees with ours: {wrong}, ours {reference}")
        listed = ", ".join(f"{k} {100 * v:.2f}" for k, v in scores[contender].items())
        seconds = statistics.median(values)
        table.add_row(contender, f"{seconds:.3f}", f"{seconds / base:.2f}", listed)
    Console().print(table)


def ours(load: Load, protocol: Protocol) -> Scores:
    """Returns the scores of this project, from the results and the annotation or its index."""
    files = ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt", "cover.label")
    listed = [SequenceFiles(n, load.data(n), tuple(load.data(n) / file for file in files)) for n in load.names]
    tracks = {
        s.name: as_track(s, read_result(load.result(s.name)))
        for s in read_sequences(load.root, listed, read_sequence, load.cache)
    }
    return {name: value for name, value in protocol.report(tracks).items() if isinstance(value, float)}


def read_sequence(files: SequenceFiles) -> Sequence:
    """Reads the annotation of a sequence like our readers of the public benchmarks."""
    annotation, *occlusions, cover = files.annotations
    boxes = read_numbers(annotation, 4)
    absent = np.any([read_labels(path, len(boxes)) for path in occlusions], 0)
    frames = NumberedFrames("", 1, 8, ".jpg", len(boxes))
    return Sequence(files.name, files.folder, frames, boxes, absent, read_labels(cover, len(boxes), highest=8), SIZE)


def toolkit_got10k(load: Load) -> Scores:
    """Returns the scores of the installed got10k toolkit by the protocol of GOT-10k."""
    folders = [str(load.root / name) for name in ("data", "results", "reports")]
    experiment = ExperimentGOT10k(folders[0], "val", *folders[1:])
    overall = _report(experiment)
    return {"AO": overall["ao"], "SR0.5": overall["sr"], "SR0.75": overall["succ_curve"][75]}


def toolkit_one_pass(load: Load, kind: type) -> Scores:
    """Returns the scores of the installed got10k toolkit by the protocol of OTB.

    Constructors are bypassed, as that of OTB starts a download and that of LaSOT fails.
    """
    dataset = kind.__new__(kind)
    dataset.seq_names, dataset.return_meta = load.names, False
    # LaSOT takes the folder of the pictures, OTB the folder above.
    dataset.seq_dirs = [str(load.data(n) / "img") if kind is LaSOT else str(load.data(n)) for n in load.names]
    dataset.anno_files = [str(load.data(n) / "groundtruth.txt") for n in load.names]
    experiment = ExperimentOTB.__new__(ExperimentOTB)
    experiment.dataset, experiment.nbins_iou, experiment.nbins_ce = dataset, 21, 51
    experiment.result_dir, experiment.report_dir = str(load.root / "results"), str(load.root / "reports")
    overall = _report(experiment)
    return {"AUC": overall["success_score"], "OP50": overall["success_rate"], "P": overall["precision_score"]}


def _report(experiment: ExperimentGOT10k | ExperimentOTB) -> dict[str, float]:
    experiment.plot_curves = lambda *_: None
    with contextlib.redirect_stdout(io.StringIO()):
        return experiment.report([TRACKER])[TRACKER]["overall"]


def a_sequence_at_a_time(load: Load, labelled: bool) -> Scores:
    """Returns the scores by PyTracking's rules in torch, one sequence after the other."""
    grids = [torch.arange(0, 1.05, 0.05, dtype=torch.float64), torch.arange(0, 51), torch.arange(0, 51) / 100.0]
    curves: list[list[torch.Tensor]] = [[], [], []]
    for name in load.names:
        truth = torch.tensor(np.loadtxt(load.data(name) / "groundtruth.txt", delimiter=",", dtype=np.float64))
        boxes = torch.tensor(np.loadtxt(load.result(name), delimiter=",", dtype=np.float64))
        absent = torch.zeros(len(truth), dtype=torch.bool)
        if labelled:
            for label in ("full_occlusion", "out_of_view"):
                text = np.loadtxt(load.data(name) / f"{label}.txt", delimiter=",", dtype=np.float64)
                absent |= torch.tensor(text) > 0
        boxes[0] = truth[0]
        near, far = torch.maximum(boxes[:, :2], truth[:, :2]), [b[:, :2] + b[:, 2:] - 1 for b in (boxes, truth)]
        shared = (torch.minimum(*far) - near + 1).clamp(0).prod(1)
        overlap = shared / (boxes[:, 2:].prod(1) + truth[:, 2:].prod(1) - shared)
        middles = [b[:, :2] + 0.5 * (b[:, 2:] - 1) for b in (boxes, truth)]
        error = (middles[0] - middles[1]).square().sum(1).sqrt()
        relative = (middles[0] / truth[:, 2:] - middles[1] / truth[:, 2:]).square().sum(1).sqrt()
        invalid = (truth <= 0).any(1) | absent
        overlap[invalid], error[invalid], relative[invalid] = -1, torch.inf, -1
        relative[absent] = torch.inf
        values = (overlap[:, None] > grids[0], error[:, None] <= grids[1], relative[:, None] <= grids[2])
        for curve, passed in zip(curves, values, strict=True):
            curve.append(passed.double().mean(0))
    success, precision, normalized = (torch.stack(curve).mean(0) for curve in curves)
    scores = {"AUC": success.mean(), "OP50": success[10], "OP75": success[15], "P": precision[20]}
    return {name: float(value) for name, value in (scores | {"P_norm": normalized[20]}).items()}


def loops(load: Load) -> Scores:
    """Returns the scores by TrackingNet's rules, computed frame by frame."""
    grids = [np.linspace(0, last, 21) for last in (1, 50, 0.5)]
    curves: list[list[np.ndarray]] = [[], [], []]
    covered = 0
    for name in load.names:
        values: list[list[float]] = [[], [], []]
        rows = zip(_lines(load.data(name) / "groundtruth.txt"), _lines(load.result(name)), strict=True)
        for i, (truth, box) in enumerate(rows):
            x, y, w, h = truth
            p, q, u, v = box if i else truth
            covered += p + q + u + v > 0
            shared = max(0, min(x + w, p + u) - max(x, p)) * max(0, min(y + h, q + v) - max(y, q))
            dx, dy = p + u / 2 - x - w / 2, q + v / 2 - y - h / 2
            values[0].append(shared / (w * h + u * v - shared))
            values[1].append((dx**2 + dy**2) ** 0.5)
            values[2].append(((dx / w) ** 2 + (dy / h) ** 2) ** 0.5)
        for k, (grid, measured) in enumerate(zip(grids, values, strict=True)):
            column = np.array(measured)[:, None]
            passed = column >= grid if k == 0 else column <= grid
            curves[k].append(passed.mean(0))
    areas = [float(np.trapezoid(np.mean(curve, 0), grids[0])) for curve in curves]
    frames = len(load.names) * load.frames
    return dict(zip(("AUC", "P", "P_norm", "coverage"), [*areas, covered / frames], strict=True))


def _lines(path: Path) -> Iterator[list[int]]:
    for line in path.read_text().splitlines():
        yield [round(float(n)) for n in line.split(",")]


if __name__ == "__main__":
    main()
