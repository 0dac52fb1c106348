"""What a value of `checkpoint` stands for: a file, the folder of an export, or one of OpenCV's trackers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evaluation.study.job_result import bytes_of, size_of
from evaluation.study.stage_record import hash_file
from trackers.base import Tracker
from trackers.exported import ExportedTracker, is_export
from trackers.online import Openable
from trackers.opencv import is_opencv


def has_recipe(checkpoint: str) -> bool:
    """Returns whether a value of `checkpoint` is a file, whose recipe `tracker` changes."""
    return not is_opencv(checkpoint) and not is_export(checkpoint)


def reading_of(cfg: DictConfig) -> dict[str, Any]:
    """Returns the arguments of `read_tracker` for a resolved configuration."""
    if is_opencv(cfg.checkpoint):
        return {"path": cfg.checkpoint, "files": _opencv_files(cfg)}
    if is_export(cfg.checkpoint):
        return {"path": cfg.checkpoint}
    recipe: Any = OmegaConf.to_container(cfg.tracker)
    return {"path": cfg.checkpoint, "recipe": recipe, "gates": instantiate(cfg.gates)}


def identity_of(cfg: DictConfig) -> Any:
    """Returns what tells an export or a tracker of OpenCV from all others, as plain data for a cache key."""
    if is_opencv(cfg.checkpoint):
        hashes = {name: hash_file(path) for name, path in _opencv_files(cfg).items()}
        return {"opencv": cv2.__version__, "tracker": cfg.checkpoint, "files": hashes}
    files = sorted(path for path in Path(cfg.checkpoint).iterdir() if path.is_file())
    return {path.name: hash_file(path) for path in files}


def size_in(tracker: Openable, checkpoint: str) -> dict[str, Any]:
    """Returns "params", "macs" and "bytes", see `size_of`, as far as they are known.

    Args:
        tracker: the tracker.
        checkpoint: the value of `checkpoint`.
    """
    if isinstance(tracker, Tracker):
        return size_of(tracker, Path(checkpoint))
    if isinstance(tracker, ExportedTracker):
        params, macs = (tracker.about.get(key) for key in ("params", "macs"))  # of a file that a stranger may have made
        known = {"params": params} if _is_count(params) else {}
        if isinstance(macs, Mapping) and _is_count(macs.get("total")):
            parts = macs.get("parts")
            if isinstance(parts, Mapping) and all(map(_is_count, parts.values())):
                known["macs"] = macs
        return known | {"bytes": bytes_of(Path(checkpoint))}
    return {}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _opencv_files(cfg: DictConfig) -> dict[str, str]:
    files = {"backbone": cfg.opencv.backbone, "neckhead": cfg.opencv.neckhead, "net": cfg.opencv.net}
    return {name: str(path) for name, path in files.items() if path is not None}
