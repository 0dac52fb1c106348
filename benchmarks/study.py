"""What the stage cache saves, and whether a study survives being killed.

    python benchmarks/study.py                                 # the demo study: cold, warm, and every job alone
    python benchmarks/study.py --kills 20 --folder /tmp/study  # and killed 20 times (kill -9) at random moments
    python benchmarks/study.py ratio=1,0.5 tracker=dimp        # another study

Each run is `python train.py -m experiment=demo logger=none ...` in a process of its own. Synthetic videos are made
first and shared. *Alone* means that each job has an empty stage cache; as many jobs run at a time as in the other runs.
A killed study is started again with the same command. In the end its `study.csv` has to be that of the cold run, but
for times and folders.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from command import parser
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
STUDY = ["experiment=demo", "ratio=1,0.5,0.25,0.1", "tracker=ostrack,stark,dimp"]
# Beginnings of the columns of `study.csv` that may differ between two runs of the same study.
MAY_DIFFER = ("seconds.", "latency.", "parent.latency.", "speed.", "machine.", "commit", "command", "folder", "log")

Rows = dict[str, dict[str, str]]


def main() -> None:
    """Runs the study in several ways and prints what it took."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=0, help="how often it is killed")
    options.add_argument("--seed", type=int, default=0, help="of the moments at which it is killed")
    options.add_argument("--folder", type=Path, help="where all results go; an empty one, by default a temporary one")
    given, overrides = options.parse_known_args()
    command = [sys.executable, "train.py", "-m", *STUDY, "logger=none", *overrides]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).absolute()
        cache, alone, second = (folder / name for name in ("cache", "alone-cache", "killed-cache"))
        dry = [*command, "dry_run=true", *places(folder / "dry", cache)]
        seconds_of(dry)  # makes the videos
        startup = seconds_of(dry)
        seconds = {name: seconds_of([*command, *places(folder / name, cache)]) for name in ("cold", "warm")}
        jobs = rows(folder / "cold")
        for number in range(len(jobs)):
            share_data(cache, alone / str(number))
        seconds["alone"] = seconds_of([*command, *places(folder / "alone", alone / "${hydra:job.num}")])
        table = Table("run", "seconds", "stages made", "stages found")
        for name, took in seconds.items():
            table.add_row(name, f"{took:.0f}", *map(str, stages(rows(folder / name))))
        Console().print(table)
        if given.kills:
            share_data(cache, second)
            again = [*command, *places(folder / "killed", second)]
            print(killed(again, given.kills, random.Random(given.seed), startup, seconds["cold"]))
        runs = ("warm", "alone", *(["killed"] if given.kills else []))
        differences = [f"{name}: {d}" for name in runs for d in compared(jobs, rows(folder / name))]
    if differences:
        raise SystemExit("\n".join(["the same study has other results:", *differences]))
    print(f"{len(jobs)} jobs, the same results in every run")


def places(results: Path, cache: Path) -> list[str]:
    """Where a run's results go, and where its stages are."""
    return [f"hydra.sweep.dir={results}", f"paths.cache={cache}"]


def seconds_of(command: list[str]) -> float:
    """Wall time of a command, which must succeed."""
    start = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True)
    return time.monotonic() - start


def killed(command: list[str], kills: int, rng: random.Random, startup: float, cold: float) -> str:
    """Starts a command again and again, kills it and all that it has started, and in the end lets it be."""
    ended = 0
    for count in range(kills):
        # Most lives get beyond the imports, and all of them together do most of the work.
        life = rng.uniform(0.8 * startup, startup + 1.6 * (cold - startup) / kills)
        with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
            try:
                ended += process.wait(life) == 0
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        if ended:
            return f"killed {count} times before it was through"
    subprocess.run(command, cwd=ROOT, check=True)
    return f"killed {kills} times"


def share_data(source: Path, cache: Path) -> None:
    """A cache with the data of another, but without its stages."""
    cache.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != "stages":
            (cache / path.name).symlink_to(path)


def rows(folder: Path) -> Rows:
    """`study.csv` by job."""
    with (folder / "study.csv").open(newline="") as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def stages(jobs: Rows) -> tuple[int, int]:
    """How many were made by jobs, and how many were found."""
    cells = [cell for row in jobs.values() for name, cell in row.items() if name.startswith("seconds.") and cell]
    found = sum(cell == "cached" for cell in cells)
    return len(cells) - found, found


def compared(jobs: Rows, others: Rows) -> Iterator[str]:
    """What differs."""
    for job in sorted({*jobs, *others}):
        one, other = jobs.get(job, {}), others.get(job, {})
        for column in sorted({*one, *other}):
            if one.get(column) != other.get(column) and not column.startswith(MAY_DIFFER):
                yield f"{job}, {column}: {one.get(column)} and {other.get(column)}"


if __name__ == "__main__":
    main()
