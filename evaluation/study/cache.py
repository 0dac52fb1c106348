"""Lists the stages of a cache, and deletes those that no job needs.

    python -m evaluation.study.cache                  # every stage: size, age, and the jobs that need it
    python -m evaluation.study.cache prune            # what would be deleted
    python -m evaluation.study.cache prune --delete   # deletes it
    python -m evaluation.study.cache --cache /shared/cache prune

A job needs a stage as long as the folder of the job exists. A needed stage also needs the stages that it was made from.
So delete the folders of jobs first. The stages of a running job are needed, too. Lock files stay, because a job may
wait for them.
"""

import argparse
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table

from datamodules.shared_files import describe_holder, is_leftover, remove_folder
from evaluation.study.job_records import JobRecord, read_jobs
from evaluation.study.stage_record import NAME, read_record

UNFINISHED = ".unfinished"
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
AGES = ((86400, "d"), (3600, "h"), (60, "min"))


@dataclass(frozen=True)
class CachedStage:
    """A folder in the cache.

    Attributes:
        folder: the folder.
        key: key of the stage; "" if the folder is a leftover, which no stage is.
        state: "finished", "unfinished" or "leftover".
        after: keys of the stages that it was made from.
        size: of all files, bytes.
        age: seconds since it was finished, or since it was changed.
    """

    folder: Path
    key: str
    state: str
    after: tuple[str, ...]
    size: int
    age: float


def main() -> None:
    """Runs the command line.

    Raises:
        SystemExit: the folder is no cache.
    """
    parser = argparse.ArgumentParser("python -m evaluation.study.cache", description=__doc__.split("\n")[0])
    parser.add_argument("action", nargs="?", choices=("list", "prune"), default="list")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="folder of the cache (default: cache)")
    parser.add_argument("--delete", action="store_true", help="with prune: delete, and not only say what would be")
    given = parser.parse_args()
    stages = given.cache / "stages"
    if not stages.is_dir():
        raise SystemExit(f"error: {given.cache} has no folder `stages`; name a cache, e.g. --cache cache")
    if given.delete and given.action != "prune":
        raise SystemExit("error: --delete is for prune: python -m evaluation.study.cache prune --delete")
    print_stages(stages) if given.action == "list" else prune(stages, given.delete)


def find_stages(stages: Path) -> list[CachedStage]:
    """Returns all folders of the cache, by name."""
    found = []
    for folder in sorted(path for path in stages.iterdir() if path.is_dir()):
        try:
            found.append(_describe(folder))
        except FileNotFoundError:
            continue  # a running job has just renamed it
    return found


def needed_keys(found: Iterable[CachedStage], jobs: Iterable[JobRecord]) -> set[str]:
    """Returns the keys of all stages that jobs need, and of the stages that these were made from."""
    after = {stage.key: stage.after for stage in found if stage.state == "finished"}
    waiting, needed = [key for job in jobs if not job.is_gone for key in job.stages], set()
    while waiting:
        key = waiting.pop()
        if key not in needed:
            needed.add(key)
            waiting += after.get(key, ())
    return needed


def print_stages(stages: Path) -> None:
    """Prints all stages, the jobs and stages that need them, and the processes that work on them."""
    found, jobs = find_stages(stages), read_jobs(stages)
    needed = needed_keys(found, jobs)
    table = Table("stage", "state", "size", "age", "needed by")
    for stage in found:
        users = [job.folder for job in jobs if stage.key in job.stages and not job.is_gone]
        users += [other.key for other in found if stage.key in other.after and other.key in needed]
        more = f" and {len(users) - 1} more" if len(users) > 1 else ""
        holder = stages / f"{stage.key}.holder"
        state = stage.state + (f"; {describe_holder(holder)}" if holder.is_file() else "")
        needs = f"{users[0]}{more}" if users else "nothing"
        table.add_row(stage.folder.name, state, _size(stage.size), _age(stage.age), needs)
    console = Console()
    # Tables in files are not cut.
    Console(width=None if console.is_terminal else 250).print(table)
    unneeded = [stage for stage in found if stage.key not in needed]
    console.print(
        f"{len(found)} stages with {_size(sum(s.size for s in found))}, of which nothing needs {len(unneeded)} with "
        f"{_size(sum(s.size for s in unneeded))}"
    )


def prune(stages: Path, delete: bool) -> None:
    """Deletes the stages that nothing needs, or says which these are. A stage that a process works on stays.

    Args:
        stages: folder of all stages.
        delete: whether to delete.
    """
    found, jobs = find_stages(stages), read_jobs(stages)
    needed = needed_keys(found, jobs)
    freed = 0
    for stage in (s for s in found if s.key not in needed):
        done = _delete(stage, found, stages) if delete else "would be deleted"
        print(f"{stage.folder.name}: {_size(stage.size)}, {_age(stage.age)} old: {done}")
        freed += stage.size if done != "in use" else 0
    if delete:
        for job in jobs:
            if job.is_gone:
                job.file.unlink(missing_ok=True)
        print(f"deleted {_size(freed)}; files that jobs share keep their room until the jobs' folders are deleted")
    else:
        print(f"{_size(freed)} would be deleted; add --delete to do it")


def _describe(folder: Path) -> CachedStage:
    record = read_record(folder)
    key, after = folder.name.removesuffix(UNFINISHED), tuple(record["after"]) if record else ()
    state = "finished" if record and key == folder.name else "unfinished"
    if is_leftover(folder):
        key, state, after = "", "leftover", ()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    changed = (folder / NAME if record else folder).stat().st_mtime
    return CachedStage(folder, key, state, after, size, time.time() - changed)


def _delete(stage: CachedStage, found: list[CachedStage], stages: Path) -> str:
    """Deletes a stage unless a process works on it; returns what happened."""
    try:
        with FileLock(stages / f"{stage.key}.lock").acquire(timeout=0):
            # A job notes its stages before it looks for them, and it looks for them under this lock. So a job that has
            # found the stage since this command began is seen here.
            if stage.key in needed_keys(found, read_jobs(stages)):
                return "in use"
            remove_folder(stage.folder)
    except Timeout:
        return "in use"
    return "deleted"


def _size(size: float) -> str:
    return next((f"{size / unit:.1f} {name}" for unit, name in UNITS if size >= unit), f"{size:.0f} B")


def _age(seconds: float) -> str:
    """Returns an age in words; clocks may differ, so it may be negative."""
    return next((f"{seconds / unit:.0f} {name}" for unit, name in AGES if seconds >= unit), "just now")


if __name__ == "__main__":
    main()
