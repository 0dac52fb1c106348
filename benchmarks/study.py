"""Measures the time that the stage cache saves, and checks that a killed study continues with the same results.

    python benchmarks/study.py                                 # the demo study: cold, warm, and each job alone
    python benchmarks/study.py --kills 20 --folder results     # also killed 20 times (kill -9) at random moments
    python benchmarks/study.py ratio=1,0.5 tracker=dimp        # another study

Each run is `python train.py -m experiment=demo logger=none ...` in its own process. Synthetic videos are made first and
shared by all runs. *Alone* means that each job starts with an empty stage cache; as many jobs run at a time as in the
other runs. A killed study is started again with the same command. Its final `study.csv` must be equal to that of the
cold run, except for times and folders.
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
# Prefixes of the columns of `study.csv` that may differ between two runs of the same study.
MAY_DIFFER = (
    "seconds.",
    "latency.",
    "parent.latency.",
    "speed.",
    "speedup.",
    "bytes",  # of the file, whose header holds paths
    "parent.bytes",
    "machine.",
    "commit",
    "stages.",
    "command",
    "folder",
    "log",
)

Rows = dict[str, dict[str, str]]


def main() -> None:
    """Runs the study in several ways and prints their times."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=0, help="number of times that the study is killed")
    options.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    options.add_argument("--folder", type=Path, help="empty folder for all results (default: a temporary one)")
    given, overrides = options.parse_known_args()
    command = [sys.executable, "train.py", "-m", *STUDY, "logger=none", "resume_minutes=0.05", *overrides]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).absolute()
        cache, alone, second = (folder / name for name in ("cache", "alone-cache", "killed-cache"))
        dry = [*command, "dry_run=true", *folders(folder / "dry", cache)]
        seconds_of(dry)  # makes the videos
        startup = seconds_of(dry)
        seconds = {name: seconds_of([*command, *folders(folder / name, cache)]) for name in ("cold", "warm")}
        jobs = rows(folder / "cold")
        for number in range(len(jobs)):
            share_data(cache, alone / str(number))
        seconds["alone"] = seconds_of([*command, *folders(folder / "alone", alone / "${hydra:job.num}")])
        table = Table("run", "seconds", "stages made", "stages found")
        for name, took in seconds.items():
            table.add_row(name, f"{took:.0f}", *map(str, stages(rows(folder / name))))
        Console().print(table)
        if given.kills:
            share_data(cache, second)
            again = [*command, *folders(folder / "killed", second)]
            print(run_killed(again, given.kills, random.Random(given.seed), startup, seconds["cold"]))
        runs = ("warm", "alone", *(["killed"] if given.kills else []))
        differences = [f"{name}: {d}" for name in runs for d in differences_of(jobs, rows(folder / name))]
    if differences:
        raise SystemExit("\n".join(["the same study has different results:", *differences]))
    print(f"{len(jobs)} jobs with the same results in every run")


def folders(results: Path, cache: Path) -> list[str]:
    """Returns the overrides for the folder of results and for the cache."""
    return [f"hydra.sweep.dir={results}", f"paths.cache={cache}"]


def seconds_of(command: list[str]) -> float:
    """Runs a command, which must succeed, and returns its wall time."""
    start = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True)
    return time.monotonic() - start


def run_killed(command: list[str], kills: int, rng: random.Random, startup: float, cold: float) -> str:
    """Starts a command repeatedly, kills it with all its processes, and finally lets it finish."""
    ended = 0
    for count in range(kills):
        # Most runs get past the imports, and all runs together do most of the work.
        seconds = rng.uniform(0.8 * startup, startup + 1.6 * (cold - startup) / kills)
        with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
            try:
                ended += process.wait(seconds) == 0
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        if ended:
            return f"killed {count} times before the study was complete"
    subprocess.run(command, cwd=ROOT, check=True)
    return f"killed {kills} times"


def share_data(source: Path, cache: Path) -> None:
    """Makes a cache that shares the data of another cache, but not its stages."""
    cache.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != "stages":
            (cache / path.name).symlink_to(path)


def rows(folder: Path) -> Rows:
    """Returns the rows of `study.csv` by job."""
    with (folder / "study.csv").open(newline="") as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def stages(jobs: Rows) -> tuple[int, int]:
    """Returns how many stages the jobs made, and how many they found in the cache."""
    cells = [cell for row in jobs.values() for name, cell in row.items() if name.startswith("seconds.") and cell]
    found = sum(cell == "cached" for cell in cells)
    return len(cells) - found, found


def differences_of(jobs: Rows, others: Rows) -> Iterator[str]:
    """Yields the differences between two studies."""
    for job in sorted({*jobs, *others}):
        one, other = jobs.get(job, {}), others.get(job, {})
        for column in sorted({*one, *other}):
            if one.get(column) != other.get(column) and not column.startswith(MAY_DIFFER):
                yield f"{job}, {column}: {one.get(column)} and {other.get(column)}"


if __name__ == "__main__":
    main()
