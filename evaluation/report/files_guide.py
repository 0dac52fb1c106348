"""Which file of a job or study answers what, and the command that is useful next: the last lines of a command."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation.processes.shell_command import hydra_value, shell_line

ANSWERS = {
    "comparison.html": "the comparison, for a browser",
    "comparison.json": "all numbers",
    "video.mp4": "the frames with boxes",
    "show": "frames with boxes, as a sheet and as a video",
    "profile.md": "the tables, for a page",
    "profile.csv": "the numbers of each row",
    "profile.json": "all numbers",
    "report.html": "the study, for a browser",
    "study.md": "its tables, for a page",
    "study.tex": "its tables, for a paper",
    "study.csv": "all numbers, a row for each job",
    "plots": "its figures",
    "result.json": "all numbers",
    "open_loop.json": "all numbers",
    "submission.json": "what made the archive",
    "sequences.csv": "each video: scores, frames, fps, where the object was lost",
    "checkpoint.safetensors": "the tracker, for trackers.load_tracker(path)",
    "boxes": "the box of every frame",
    "config.yaml": "all settings",
}
# keys of eval.py
EVALUATION = (
    "benchmark",
    "device",
    "fake_data",
    "gates",
    "opencv",
    "paths",
    "runner",
    "runtime",
    "synthetic",
    "threads",
)


def files_guide(folder: Path, following: str = "", archive: Path | None = None) -> str:
    """Returns the folder of a job or study, its files with what each one answers, and the command that is useful next.

    Args:
        folder: of the job or study. Files that it lacks are left out.
        following: the next command; "" for none.
        archive: file that was packed for a benchmark's server.
    """
    rows = {path.name + "/" * path.is_dir(): text for name, text in ANSWERS.items() if (path := folder / name).exists()}
    if any(folder.glob("*/result.json")):
        rows["*/"] = "each job, with files of its own"
    if archive is not None:
        rows[display_path(archive)] = "for the server of the benchmark"
    width = max(map(len, rows), default=0)
    lines = [f"{display_path(folder)}/", *(f"  {name:{width}}  {text}" for name, text in rows.items())]
    return "\n".join([*lines, f"next: {following}"] if following else lines)


def display_path(path: Path) -> str:
    """Returns a path that can be copied: relative if it is below the working directory."""
    path, here = Path(path).absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def show_command(checkpoints: Iterable[Path | str], overrides: Sequence[str] = (), benchmark: str = "synthetic") -> str:
    """Returns the command that draws the boxes of trackers on the frames of a benchmark.

    Args:
        checkpoints: files of the trackers.
        overrides: of the command that scored them; what concerns data and devices is kept.
        benchmark: the choice of conf/benchmark.
    """
    files = [hydra_value(display_path(Path(checkpoint))) for checkpoint in checkpoints]
    kept = [override for override in overrides if re.split(r"[.=]", override.lstrip("+~"))[0] in EVALUATION]
    if benchmark not in ("", "synthetic") and not any(override.startswith("benchmark=") for override in kept):
        kept.insert(0, f"benchmark={benchmark}")
    listed = files[0] if len(files) == 1 else f"[{','.join(files)}]"
    return command("eval", f"checkpoint={listed}", *kept, "action=show")


def prune_command(checkpoint: Path) -> str:
    """Returns the command that prunes a tracker to one half."""
    return command("prune", f"checkpoint={hydra_value(display_path(checkpoint))}", "ratio=0.5")


def command(script: str, *overrides: str) -> str:
    """Returns a command line of another script beside the running one, quoted for a shell."""
    running = Path(sys.argv[0])
    is_installed = running.name.startswith("lwt-")
    words = [f"lwt-{script}"] if is_installed else ["python", str(running.with_name(f"{script}.py"))]
    return shell_line([*words, *overrides])
