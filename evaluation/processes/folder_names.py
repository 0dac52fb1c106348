"""Names of trackers and checkpoints in the names of folders, for the configuration of Hydra."""

import json
import re
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf
from safetensors import SafetensorError, safe_open

LONGEST = 100  # bytes: a folder name may have 255
DATED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError)
# Names of many files, whose folders tell them apart: those of train.py and prune.py, and those of model hubs.
OF_ANY_JOB = ("checkpoint", "model")


def register_resolvers() -> None:
    """Makes `${tracker_name:NAME,FILE}` and `${checkpoint_name:FILE}` known to configurations."""
    OmegaConf.register_new_resolver("tracker_name", tracker_name, replace=True)
    OmegaConf.register_new_resolver("checkpoint_name", checkpoint_name, replace=True)


def tracker_name(name: str | None, file: Any) -> str:
    """Returns the name of a job's tracker as part of a folder name.

    Args:
        name: of the tracker; None if the checkpoint alone tells it.
        file: the checkpoint. If it is not one of this project, its own name is returned.
    """
    return name_part(name or _tracker_in(str(file)) or checkpoint_name(file))


def checkpoint_name(file: Any) -> str:
    """Returns the name of a checkpoint, or of several, as part of a folder name: that of the file or of its folder.

    The folder of a job outside of a sweep has a date for a name. Its checkpoint is called by tracker and ratio.
    """
    if isinstance(file, ListConfig | list | tuple):
        return name_part("_".join(map(checkpoint_name, file)))
    path = Path(str(file))
    stem = path.name.split(".")[0]
    if stem not in OF_ANY_JOB:
        return name_part(stem)
    return name_part((has_dated_folder(path) and _job_in(str(file))) or path.absolute().parent.name)


def has_dated_folder(file: str | Path) -> bool:
    """Returns whether a checkpoint is that of a job outside of a sweep, whose folder has a date for a name."""
    return DATED.fullmatch(Path(file).absolute().parent.name) is not None


def _tracker_in(file: str) -> str | None:
    """Returns the class of the tracker in a file of this project, in lower case; None for any other file."""
    try:
        return _header(file, "recipe")["_target_"].rpartition(".")[2].lower()
    except UNREADABLE:
        return None


def _job_in(file: str) -> str | None:
    """Returns tracker and ratio of the job that made a file, as in the folders of a sweep; None for any other file."""
    try:
        config = _header(file, "config")
        return f"{config['job']['tracker']}_ratio{config['ratio']:g}"
    except UNREADABLE:
        return None


def _header(file: str, part: str) -> Any:
    with safe_open(file, "numpy") as opened:
        return json.loads((opened.metadata() or {})[part])


def name_part(name: str) -> str:
    """Returns a text as part of the name of a folder: without slashes, spaces and other special characters."""
    short = re.sub(r"[^\w.+-]+", "-", name).encode(errors="ignore")[:LONGEST].decode(errors="ignore")
    return short.strip("-.") or "unnamed"
