"""What a value of `checkpoint` stands for: a file, the folder of an export, or one of OpenCV's trackers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from evaluation.export.loaded_tracker import LoadedTracker, load_export, load_opencv
from evaluation.study.job_result import bytes_of, size_of
from evaluation.study.stage_record import hash_file
from trackers.checkpoints.checkpoint import Checkpoint, load_checkpoint
from trackers.exported import ExportedTracker, is_export
from trackers.opencv import OpenCVTracker, is_opencv

Loader = Callable[[], Checkpoint | LoadedTracker]  # can be pickled, so other processes can call it


def has_recipe(checkpoint: str) -> bool:
    """Returns whether a value of `checkpoint` is a file, whose recipe `tracker` changes."""
    return not is_opencv(checkpoint) and not is_export(checkpoint)


def loader_of(cfg: DictConfig) -> Loader:
    """Returns a function that loads the tracker of a resolved configuration.

    Raises:
        TrackerError: the installed OpenCV lacks the tracker, or a file of its networks is missing.
    """
    if is_opencv(cfg.checkpoint):
        files = _opencv_files(cfg)
        OpenCVTracker(cfg.checkpoint, files)  # here, so that what is missing ends the command before its work starts
        return partial(load_opencv, cfg.checkpoint, files)
    if is_export(cfg.checkpoint):
        return partial(load_export, cfg.checkpoint)
    recipe: Any = OmegaConf.to_container(cfg.tracker)
    return partial(load_checkpoint, cfg.checkpoint, recipe, instantiate(cfg.gates))


def identity_of(cfg: DictConfig) -> Any:
    """Returns what tells an export or a tracker of OpenCV from all others, as plain data for a cache key."""
    if is_opencv(cfg.checkpoint):
        hashes = {name: hash_file(path) for name, path in _opencv_files(cfg).items()}
        return {"opencv": cv2.__version__, "tracker": cfg.checkpoint, "files": hashes}
    files = sorted(path for path in Path(cfg.checkpoint).iterdir() if path.is_file())
    return {path.name: hash_file(path) for path in files}


def size_in(loaded: Checkpoint | LoadedTracker, checkpoint: str) -> dict[str, Any]:
    """Returns "params", "macs" and "bytes", see `size_of`, as far as they are known.

    Args:
        loaded: the tracker.
        checkpoint: the value of `checkpoint`.
    """
    if isinstance(loaded, Checkpoint):
        return size_of(loaded, Path(checkpoint))
    if isinstance(loaded.tracker, ExportedTracker):
        known = {key: loaded.tracker.about[key] for key in ("params", "macs") if key in loaded.tracker.about}
        return known | {"bytes": bytes_of(Path(checkpoint))}
    return {}


def _opencv_files(cfg: DictConfig) -> dict[str, str]:
    files = {"backbone": cfg.opencv.backbone, "neckhead": cfg.opencv.neckhead, "net": cfg.opencv.net}
    return {name: str(path) for name, path in files.items() if path is not None}
