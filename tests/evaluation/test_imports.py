"""Modules that light processes import load none of the heavy libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

LIGHT = (
    *("evaluation.report", "evaluation.report.study_results", "evaluation.report.wandb_study", "evaluation.dashboard"),
    *("evaluation.loggers", "evaluation.loggers.ending", "evaluation.tracking.metrics", "evaluation.tracking.worker"),
    *("evaluation.tracking.benchmark", "evaluation.tracking.result_files", "evaluation.tracking.submission"),
)
ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "pytorch_lightning", "matplotlib", "jinja2", "wandb", "got10k", "cv2"}


def test_light_modules_load_no_heavy_library():
    assert loaded_by(*LIGHT) & HEAVY == set()


def test_scripts_load_no_heavy_library():
    assert loaded_by("train", "prune", "eval") & HEAVY == set()


@pytest.mark.attack
def test_other_trackers_do_not_load_timm():
    assert "timm" not in loaded_by("trackers.checkpoints.checkpoint", "trackers.dimp", "trackers.stark")


def loaded_by(*modules: str) -> set[str]:
    """The modules that a fresh process holds after it has imported these."""
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(done.stdout.split())
