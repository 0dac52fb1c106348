"""What needs CUDA: training in bfloat16, tracking, and the synchronised clock."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluation.export.timing.network_latency import latencies
from pruning import Group, Pruner, Slice
from pruning.criteria import Magnitude
from tests.conftest import results
from tests.trackers.networks import small_ostrack
from tests.trackers.test_lockstep import BATCHED, alone, assert_same_boxes, together

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(("tracker", "method"), [("ostrack", "slim"), ("stark", "slim"), ("dimp", "network_slimming")])
def test_a_job_in_mixed_precision_has_finite_losses_and_masks_that_are_the_child(
    run: Callable[..., Path], tracker: str, method: str
) -> None:
    place = ("trainer.accelerator=gpu", "device=cuda", "trainer.precision=bf16-mixed")
    logged = ("logger=csv", "trainer.log_every_n_steps=1")
    outputs = run("train", f"tracker={tracker}", f"pruning={method}", "ratio=0.5", *place, *logged)
    header, *rows = csv.reader(next(outputs.rglob("metrics.csv")).open())
    losses = [float(row[i]) for row in rows for i, name in enumerate(header) if name.endswith("/total") and row[i]]
    assert len(losses) >= 4 + 6 + 2
    assert np.isfinite(losses).all()
    (result,) = results(outputs)
    assert result["ratio_achieved"] <= 0.5
    assert result["masked_vs_compacted"] < 1e-4
    assert list(result["latency"]) == ["cuda"]


@pytest.mark.parametrize("make", BATCHED.values(), ids=BATCHED)
def test_lockstep_gives_the_boxes_of_one_by_one_and_of_the_cpu(make: Callable[[], torch.nn.Module]) -> None:
    wanted = alone(make())
    tracker = make().cuda()
    assert_same_boxes(alone(tracker), wanted)
    assert_same_boxes(together(tracker), wanted)


def test_a_network_that_moves_to_the_gpu_after_attach_is_cut_by_inputs_of_the_cpu() -> None:
    network, pruner = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), Pruner(0.5, Magnitude())
    slices = (Slice("0.weight", 0, gated=True), Slice("0.bias", 0, gated=True), Slice("2.weight", 1))
    x = torch.randn(3, 4)
    pruner.attach(network, [Group("hidden", "mlp", 8, slices)], lambda _: {"input": x})
    network.cuda()
    pruner.update()
    assert pruner.finish([{"input": x}])["masked_vs_compacted"] < 1e-5


def test_latency_is_that_of_finished_work() -> None:
    small, twice = small_ostrack(), small_ostrack()
    found = latencies({"once": small, "again": twice}, "cuda")
    assert all(np.isfinite(times["ms"]) and times["ms"] > 0 for times in found.values())
