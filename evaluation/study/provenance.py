"""Provenance of a result: versions of packages, commit of this code, and machine."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import cv2
import torch

from evaluation.processes.processor import processor_name

PACKAGES = ("torch", "timm", "pytorch-lightning", "hydra-core", "numpy")


def provenance() -> dict[str, Any]:
    """Returns "versions" of packages, "commit" (None outside of a repository), and "machine" in words."""
    machine = {"cpu": processor_name(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    versions = {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES}
    return {"versions": versions | {"opencv": cv2.__version__}, "commit": _commit(), "machine": machine}


def _commit() -> str | None:
    """Returns the commit of the working tree, marked if files differ from it; None outside of a repository.

    A wheel may be installed below a folder of another project's repository, whose commit says nothing about this code.
    """
    if not _git("ls-files", Path(__file__).name):
        return None
    return _git("describe", "--always", "--dirty=, with changes", "--abbrev=12", "--exclude=*") or None


def _git(*words: str) -> str:
    """Returns what git says in the folder of this file; "" if it says nothing, fails, or is not installed."""
    try:
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
