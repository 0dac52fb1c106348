"""Counts the networks that can be cut to half of their parameters, with this project and with torch-pruning.

python -m benchmarks.coverage                  # the main list, both sides
python -m benchmarks.coverage --list held-out  # networks that nobody has tuned for
python -m benchmarks.coverage --only resnet10t@64 --sides ours

Weights are random; every entry has a value of its own, and batch norms have statistics near those of random images.
"Ours" finds the groups itself and ranks by magnitude. "Theirs" is torch-pruning 1.6.1 with its group magnitude, a
uniform ratio of channels that is searched until at most half of the parameters are left, without the classifier, and
with numbers of heads and corrections of attributes as in its examples.

Both sides are judged alike, in float64, with two images in each of three draws. The values of the kept entries tell
which entries a cut network keeps. The masked twin is the uncut network with zeros at all other entries, whose
normalizations take their statistics over the kept channels. "ok" means: at most half of the parameters, outputs equal
to those of the twin, outputs that depend on the image, finite gradients and a step of training, and equal outputs after
a copy, a pickle and a state dict. torch-pruning does not promise outputs equal to a masked network; `error` tells how
far away they are, and "wrong" that they differ without a warning.

Each network has a process of its own. Results are appended to --results, so that a run that was stopped goes on.
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import timm  # noqa: F401  # processes are forks, and have what is imported here
import torch
import torchvision  # noqa: F401
from rich.console import Console
from rich.progress import track

from benchmarks.coverage import models
from benchmarks.coverage.isolation import in_process
from benchmarks.coverage.table import markdown
from benchmarks.coverage.trial import row_of

LISTS = {"main": models.MAIN, "held-out": models.HELD_OUT}


def main() -> None:
    """Runs what has no result yet, and prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--list", choices=sorted(LISTS), default="main", help="list of networks (default: %(default)s)"
    )
    options.add_argument("--only", nargs="+", default=[], help="names of networks, instead of the whole list")
    options.add_argument("--sides", nargs="+", choices=("ours", "theirs"), default=("ours", "theirs"))
    options.add_argument("--ratio", type=float, default=0.5, help="fraction of the parameters (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=120, help="limit for one network (default: %(default)s)")
    options.add_argument("--gigabytes", type=float, default=12, help="limit of memory (default: %(default)s)")
    options.add_argument("--export", action="store_true", help="export the cut networks, too: some seconds for each")
    options.add_argument("--results", type=Path, help="file of JSON lines (default: coverage_LIST.jsonl in outputs/)")
    given = options.parse_args()
    if "theirs" in given.sides and find_spec("torch_pruning") is None:
        options.error("--sides theirs needs torch-pruning: pip install -e '.[benchmarks]'")
    torch.set_num_threads(1)
    entries = given.only or LISTS[given.list]
    path = given.results or Path("outputs") / f"coverage_{given.list}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = _read(path)
    missing = [(e, side) for e in entries for side in given.sides if given.only or (e, side) not in results]
    with path.open("a") as file:
        for entry, side in track(
            missing, description="cutting", console=Console(stderr=True), auto_refresh=False
        ):  # forks want no threads
            arguments = entry, side, given.ratio, given.export
            row = in_process(row_of, *arguments, seconds=given.seconds, gigabytes=given.gigabytes)
            row = {"network": entry, "side": side, **row}
            results[entry, side] = row
            print(json.dumps(row), file=file, flush=True)
    print(markdown(entries, results))


def _read(path: Path) -> dict[tuple[str, str], dict]:
    """Returns the rows of a file, the last one of each network and side."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["network"], row["side"]): row for row in rows}


if __name__ == "__main__":
    main()
