"""Names of trackers and checkpoints in the names of folders, for the configuration of Hydra."""

import json
import re
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf
from safetensors import SafetensorError, safe_open

LONGEST = 100  # bytes: a folder name may have 255
OF_ANY_JOB = "checkpoint"  # train.py and prune.py call all their files so; their folders have the names


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
    """Returns the name of a checkpoint, or of several, as part of a folder name: that of the file or of its folder."""
    if isinstance(file, ListConfig | list | tuple):
        return name_part("_".join(map(checkpoint_name, file)))
    path = Path(str(file))
    stem = path.name.split(".")[0]
    return name_part(path.absolute().parent.name if stem == OF_ANY_JOB else stem)


def _tracker_in(file: str) -> str | None:
    """Returns the class of the tracker in a file of this project, in lower case; None for any other file."""
    try:
        with safe_open(file, "numpy") as opened:
            recipe = json.loads((opened.metadata() or {})["recipe"])
        return recipe["_target_"].rpartition(".")[2].lower()
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        return None


def name_part(name: str) -> str:
    """Returns a text as part of the name of a folder: without slashes, spaces and other special characters."""
    short = re.sub(r"[^\w.+-]+", "-", name).encode(errors="ignore")[:LONGEST].decode(errors="ignore")
    return short.strip("-.") or "unnamed"
