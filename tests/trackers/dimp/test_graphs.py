"""Tests of DiMP's graphs: shapes, equality with the network, and samples of weight 0."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pruning.surgery import compact
from tests.pruning.networks import random_plan
from tests.trackers.dimp.test_tracker import moving, small
from trackers.dimp.graphs import FirstGraph, SearchGraph, UpdateGraph
from trackers.dimp.optimisers import GaussNewton, Newton
from trackers.online import OnlineTracker


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def run(tracker: Any) -> dict[str, tuple[Mapping[str, Tensor], dict[str, Tensor]]]:
    """Returns the example inputs and the outputs of each graph."""
    found = {}
    for name, graph in tracker.graphs().items():
        with torch.inference_mode():
            found[name] = graph.inputs, graph.module(**graph.inputs)
        assert tuple(found[name][1]) == graph.outputs
        assert not set(graph.inputs) & set(graph.outputs)  # ONNX has one name space
    return found


@pytest.mark.parametrize(
    "name", ["tiny", "pruned", "double", *(pytest.param(n, marks=pytest.mark.slow) for n in ("dimp18", "prdimp18"))]
)
def test_outputs_of_a_graph_have_the_shapes_and_types_that_others_read(name: str) -> None:
    tracker = small(name if "dimp" in name else "tiny").eval()
    if name == "pruned":
        compact(tracker.network, tracker.groups(), random_plan(tracker.groups(), 1))
    if name == "double":
        tracker.double()
    found = run(tracker)
    made = found["first"][1] | found["search"][1]
    made["features"] = found["search"][1]["features"]
    read = {name for graph in ("search", "refine") for name in found[graph][0]} - {"pixels", "starts"}
    assert read >= {"filter", "map0", "vector0"}
    for graph, (inputs, _) in found.items():
        for name in read & set(inputs) if graph in ("search", "refine") else ():
            assert (inputs[name].shape, inputs[name].dtype) == (made[name].shape, made[name].dtype), (graph, name)
    for graph in ("update", "hard_negative"):
        inputs, outputs = found[graph]
        assert inputs["features"].shape == (tracker.online.memory, *made["features"].shape[1:])
        assert inputs["features"].dtype == made["features"].dtype
        assert outputs["new_filter"].shape == inputs["filter"].shape == made["filter"].shape
    assert len(found["first"][1]["features"]) == tracker.online.first.count
    assert found["refine"][1]["boxes"].shape == (1 + tracker.online.boxes, 4)


def test_crops_of_the_reference_are_not_rounded() -> None:
    """The original tracks with float32 crops, so its graph reads them."""
    tracker = small("tiny")
    assert tracker.graphs()["search"].inputs["pixels"].dtype == torch.uint8
    tracker.search = replace(tracker.search, compat="reference")
    pixels = tracker.graphs()["search"].inputs["pixels"]
    crop, _ = tracker.rules().crop(moving(0), (40, 30, 30, 30), tracker.search)
    assert pixels.dtype == torch.float32 == torch.from_numpy(crop.pixels).dtype
    assert pixels.shape == (1, *crop.pixels.shape)


def test_graphs_without_steps_do_not_exist() -> None:
    tracker = small("tiny")
    tracker.online = replace(tracker.online, iterations={"first": 0, "update": 1, "hard_negative": 0})
    assert list(tracker.graphs()) == ["first", "search", "refine", "update"]


def test_a_child_and_a_tracker_in_double_precision_track() -> None:
    tracker = small("tiny")
    compact(tracker.network, tracker.groups(), random_plan(tracker.groups(), 1))
    boxes = []
    for kind in (tracker.float(), tracker.double()):
        online = OnlineTracker(kind)
        online.init(moving(0), (40, 30, 30, 30))
        boxes.append([online.update(moving(t))[0] for t in range(1, 3)])
    np.testing.assert_allclose(boxes[0], boxes[1], atol=0.02)


def test_search_and_refinement_are_those_of_the_network() -> None:
    tracker = small("tiny").eval()
    graphs, network = tracker.graphs(), tracker.network
    pixels = torch.randint(0, 255, (1, tracker.search.size, tracker.search.size, 3), dtype=torch.uint8)
    boxes = 96 * torch.tensor([[0.4, 0.4, 0.3, 0.2], [0.3, 0.5, 0.2, 0.2]])
    inputs = tracker.frame_inputs()
    with torch.no_grad():
        crop = tracker.normalise(pixels.permute(0, 3, 1, 2).contiguous())
        wanted = network(crop[None], boxes[None, None], None, None, inputs["filter"], inputs["modulation"])
        found = graphs["search"].module(pixels, inputs["filter"])
        refined = graphs["refine"].module(
            boxes,
            features=found["features"],
            cells=inputs["modulation"].cells,
            map0=found["map0"],
            vector0=inputs["modulation"].vectors[0],
        )
    torch.testing.assert_close(found["scores"], wanted["scores"][0, 0, 0])
    torch.testing.assert_close(refined["boxes"], wanted["refined"])
    torch.testing.assert_close(refined["ratings"], wanted["boxes"])


def test_a_softmax_makes_a_distribution_of_the_scores() -> None:
    tracker = small("tiny").eval()
    graph = tracker.graphs()["search"]
    inputs = graph.inputs | {"filter": torch.randn_like(graph.inputs["filter"])}
    with torch.no_grad():
        plain, dense = (SearchGraph(tracker.network, softmax)(**inputs)["scores"] for softmax in (False, True))
    torch.testing.assert_close(dense, plain.flatten().softmax(0).view_as(plain))


def test_copies_of_the_first_sample_lack_channels() -> None:
    """The first filter learns from the copies; their boxes are those of the first sample."""
    tracker = small("tiny").eval()
    network, pixels = tracker.network, torch.randint(0, 255, (2, 96, 96, 3)).float()
    boxes, factors = torch.tensor([[30.0, 30, 30, 30]] * 4), torch.rand(2, 32)
    with torch.no_grad():
        found = FirstGraph(network, 3)(pixels, boxes, factors)
        features = found["features"]
        torch.testing.assert_close(features[2:], features[:1] * factors[..., None, None])
        filters = network.classifier.learn(features[:, None], boxes[:, None], 3)
        torch.testing.assert_close(found["filter"], filters[-1])
        first = network.extract(tracker.normalise(pixels.permute(0, 3, 1, 2)))
        modulation = network.box_head.modulation([m[:1] for m in first.maps], boxes[:1], features[:1])
    torch.testing.assert_close(found["vector0"], modulation.vectors[0])
    torch.testing.assert_close(found["cells"], modulation.cells)


@pytest.mark.parametrize("kind", [GaussNewton, Newton])
def test_samples_of_weight_zero_are_as_if_they_were_not_there(kind: type) -> None:
    """Free slots hold zeros, and would be samples of a background with an empty box in the crop's corner."""
    network = small("tiny").network.double()
    network.classifier.optimiser = kind(stride=8, sigma=1.5).double()
    graph, used = UpdateGraph(network, 3), 5
    features = torch.randn(9, 8, 6, 6).double()
    boxes, weights = 10 + 20 * torch.rand(9, 4), torch.rand(9)
    features[used:], boxes[used:], weights[used:] = 0, 0, 0
    filter = torch.randn(1, 8, 4, 4).double()
    full, short = (graph(filter, features[:n], boxes[:n], weights[:n])["new_filter"] for n in (len(features), used))
    torch.testing.assert_close(full, short, rtol=1e-12, atol=1e-14)
    assert (full - filter).abs().max() > 0.01
    features[used:] = torch.randn(9 - used, 8, 6, 6).double()
    torch.testing.assert_close(graph(filter, features, boxes, weights)["new_filter"], short, rtol=1e-12, atol=1e-14)
    weights[used] = 0.5
    assert (graph(filter, features, boxes, weights)["new_filter"] - short).abs().max() > 1e-4
