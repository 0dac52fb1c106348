"""Reads offline runs of Weights & Biases back, by its own program."""

import json
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from wandb.util import get_core_path

WRITTEN_AFTER = 120.0  # seconds; on a busy machine the process of wandb still writes when `finish` has returned


def log_out(patch: pytest.MonkeyPatch) -> None:
    """Makes somebody of us who has no account."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        patch.delenv(name, raising=False)
    patch.setenv("NETRC", "/nonexistent")


class OfflineRun:
    """One of the runs in `folder`: words `about` it, config, summary, history, `axes`, artifacts by name, exit code.

    A run that was continued has several parts, each with a log of its own.
    """

    def __init__(self, folder: Path, part: int = 0, parts: int = 1):
        end = time.monotonic() + WRITTEN_AFTER
        while len(logs := sorted(folder.glob("wandb/offline-run-*/*.wandb"))) < parts and time.monotonic() < end:
            time.sleep(0.1)
        assert len(logs) == parts
        log = logs[part]
        while "exit" not in (found := _records(log)) and time.monotonic() < end:
            time.sleep(0.1)
        self.files = log.parent / "files"
        self.about = found["run"][0]
        self.config = _merged(self.about["config"], *found["config"])
        self.summary = _merged(*found["summary"])
        self.history = [row["item"] for row in found["history"]]
        self.axes = {record["glob_name"]: record["step_metric"] for record in found["metric"]}
        self.artifacts = {record["name"]: record for record in found["artifact"]}
        self.was_preempted = "preempting" in found
        self.exit_code = found["exit"][-1].get("exit_code", 0)

    def table(self, key: str) -> dict[str, Any]:
        """A logged table: "columns" and "data"."""
        return json.loads((self.files / self.summary[f"{key}.path"]).read_text())


def _records(log: Path) -> dict[str, list[dict[str, Any]]]:
    """All records in the log of a run, by type."""
    inspect = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file"]
    lines = subprocess.run([*inspect, str(log), str(log.parents[1])], check=True, capture_output=True).stdout
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in map(json.loads, lines.splitlines()):
        found[record["type"]].append(record[record["type"]])
    return found


def _merged(*updates: dict[str, Any]) -> dict[str, Any]:
    return {key: value for record in updates for key, value in record.get("update", {}).items()}
