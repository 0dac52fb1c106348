"""Modules that light processes import load none of the heavy libraries."""

import subprocess
import sys

LIGHT = (
    *("evaluation.report", "evaluation.report.study_results", "evaluation.report.wandb_study", "evaluation.dashboard"),
    *("evaluation.loggers", "evaluation.loggers.ending", "evaluation.tracking.metrics", "evaluation.tracking.worker"),
    *("evaluation.tracking.benchmark", "evaluation.tracking.result_files", "evaluation.tracking.submission"),
)
HEAVY = {"torch", "pytorch_lightning", "matplotlib", "jinja2", "wandb", "got10k", "cv2"}


def test_light_modules_load_no_heavy_library():
    lines = [f"import {module}" for module in LIGHT]
    code = "\n".join(["import sys", *lines, f"print(*sorted({HEAVY} & sys.modules.keys()))"])
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
