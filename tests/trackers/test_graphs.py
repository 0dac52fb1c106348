"""Graphs say of themselves what their forward returns: conversions and exports rely on it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.trackers.networks import small_ostrack
from tests.trackers.stark.test_tracker import small_stark
from trackers import load_checkpoint
from trackers.base import Tracker

WEIGHTS = Path(__file__).parents[2] / "weights"
TRACKERS: dict[str, Callable[[], Tracker]] = {
    "ostrack": small_ostrack,
    "stark": small_stark,
    "stark without a class head": lambda: small_stark(class_head=False),
    "dimp": lambda: load_checkpoint(WEIGHTS / "dimp_tiny.safetensors").tracker,
}


@pytest.mark.parametrize("make", TRACKERS.values(), ids=TRACKERS)
def test_outputs_have_the_names_that_the_graph_says(make: Callable[[], Tracker]) -> None:
    for name, graph in make().eval().graphs().items():
        with torch.no_grad():
            outputs = graph.module(**graph.inputs)
        assert tuple(outputs) == graph.outputs, name
        assert graph.batched <= {*graph.inputs}
        assert not {*graph.outputs} & {*graph.inputs}, "ONNX knows a name once"
        if graph.batched:
            assert all(len(value) == 1 for value in outputs.values()), name
