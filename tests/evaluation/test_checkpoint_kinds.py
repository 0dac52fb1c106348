"""Sizes that an export tells: its file may come from a stranger, so only counts are taken."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.commands.checkpoint_kinds import size_in
from trackers.crops import CropSpec
from trackers.exported import ExportedTracker
from trackers.ostrack.following import OSTrackRules
from trackers.rules import Online

RULES = OSTrackRules(CropSpec(32, 2.0), CropSpec(64, 4.0), Online(4.0, 0.5), reads_last_size=False)


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({"params": 3, "macs": {"total": 4, "parts": {"head": 4}}}, {"params", "macs"}),
        ({"params": "3\n4", "macs": {"total": [4], "parts": {}}}, set()),
        ({"params": -1, "macs": 4}, set()),
        ({"params": 1.5, "macs": {"total": 4, "parts": {"head": None}}}, set()),
        ({}, set()),
    ],
)
def test_only_counts_are_taken(said: dict[str, Any], known: set[str], tmp_path: Path) -> None:
    tracker = ExportedTracker(tmp_path, RULES, {}, {}, {}, "onnx", "fp32", said)
    assert size_in(tracker, str(tmp_path)) == {key: said[key] for key in known} | {"bytes": 0}
