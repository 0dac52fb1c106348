"""Parts of DiMP's network that a runtime computes while tracking."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trackers.dimp.following import FILTER_UPDATES, Learning
from trackers.dimp.network import DiMPNetwork
from trackers.dimp.refinement import refine
from trackers.dimp.regressor import Modulation
from trackers.pixels import network_input
from trackers.runtimes.graph import Graph, dtype_of


class FirstGraph(nn.Module):
    """Function from the samples of the first frame to a filter, and to what refinement must know of the target.

    Args:
        network: the network.
        steps: number of optimiser steps.
    """

    def __init__(self, network: DiMPNetwork, steps: int):
        super().__init__()
        self.network, self.steps = network, steps

    def forward(self, pixels: Tensor, boxes: Tensor, factors: Tensor | None = None) -> dict[str, Tensor]:
        """Learns the first filter.

        Args:
            pixels: samples (N, S, S, 3), 0 to 255.
            boxes: the target's boxes in the samples and in the copies, xywh in pixels, (N + copies, 4).
            factors: factors of the first sample's channels for each copy, (copies, D), if there are copies.

        Returns:
            "features" (N + copies, D, h, w) and "filter" (1, D, k, k); "vector0", "vector1", ... (1, width), the
            modulation of each level; and "cells" (1, r * r, D) if the network has correlation.
        """
        found = self.network.extract(network_input(pixels, dtype_of(self.network)))
        features = found.features
        if factors is not None:
            features = torch.cat([features, features[:1] * factors.to(features)[..., None, None]])
        boxes = boxes.to(features)
        filter = self.network.classifier.learn(features[:, None], boxes[:, None], self.steps)[-1]
        modulation = self.network.box_head.modulation([m[:1] for m in found.maps], boxes[:1], features[:1])
        outputs = {"features": features, "filter": filter, **_numbered("vector", modulation.vectors)}
        return outputs if modulation.cells is None else outputs | {"cells": modulation.cells}


class SearchGraph(nn.Module):
    """Function from a search crop to scores, and to the maps in which boxes are refined.

    Args:
        network: the network.
        softmax: whether a softmax turns scores into a distribution over cells.
    """

    def __init__(self, network: DiMPNetwork, softmax: bool):
        super().__init__()
        self.network, self.softmax = network, softmax

    def forward(self, pixels: Tensor, filter: Tensor) -> dict[str, Tensor]:
        """Applies a filter (1, D, k, k) to a crop (1, S, S, 3), 0 to 255.

        Returns:
            "scores" (F, F), "features" (1, D, h, w), and "map0", "map1", ... (1, width, h, w), one for each level.
        """
        found = self.network.extract(network_input(pixels, dtype_of(self.network)))
        scores = self.network.classifier.scores(found.features[:, None], filter)[0, 0]
        if self.softmax:
            scores = scores.flatten().softmax(0).view_as(scores)
        maps = self.network.box_head.features(found.maps)
        return {"scores": scores, "features": found.features, **_numbered("map", maps)}


class RefineGraph(nn.Module):
    """Function from boxes to refined boxes."""

    def __init__(self, network: DiMPNetwork):
        super().__init__()
        self.network = network

    def forward(
        self, starts: Tensor, features: Tensor | None = None, cells: Tensor | None = None, **levels: Tensor
    ) -> dict[str, Tensor]:
        """Refines boxes.

        Args:
            starts: boxes, xywh in pixels of the crop, (K, 4).
            features, cells: see `SearchGraph` and `FirstGraph`, if the network has correlation.
            levels: "map0", "map1", ... and "vector0", "vector1", ...

        Returns:
            "boxes" (K, 4), refined ones, and "ratings" (K,), which are those before the last step.
        """
        head = self.network.box_head
        maps, vectors = ([levels[f"{kind}{i}"] for i in range(len(head.levels))] for kind in ("map", "vector"))
        modulation, settings = Modulation(vectors, cells), self.network.refinement
        refined, ratings = refine(head, maps, modulation, starts[None], **settings, embedding=features)
        return {"boxes": refined[0], "ratings": ratings[0]}


class UpdateGraph(nn.Module):
    """Function from a filter and a memory of samples to a better filter.

    Args:
        network: the network.
        steps: number of optimiser steps.
    """

    def __init__(self, network: DiMPNetwork, steps: int):
        super().__init__()
        self.optimiser, self.steps = network.classifier.optimiser, steps

    def forward(self, filter: Tensor, features: Tensor, boxes: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Returns "new_filter" (1, D, k, k), a better one than the given one.

        Args:
            filter: (1, D, k, k).
            features: samples (M, D, h, w).
            boxes: xywh in pixels of the crop, (M, 4).
            weights: weights of the samples, (M,). A sample of weight 0 has no effect.
        """
        boxes = boxes.to(features)
        filters = self.optimiser(filter, features[:, None], boxes[:, None], self.steps, weights[:, None])
        return {"new_filter": filters[-1]}


def tracking_graphs(network: DiMPNetwork, online: Learning, size: int, dtype: torch.dtype) -> dict[str, Graph]:
    """Returns the parts of a network by name; see `trackers.dimp.following.DiMPRules`.

    Args:
        network: the network.
        online: settings of the online loop.
        size: side S of search crops in pixels.
        dtype: type of the pixels of search crops.
    """
    head, first = network.box_head, online.first
    device, kind = next(network.parameters()).device, torch.promote_types(dtype_of(network), torch.float32)

    def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def boxes(count: int) -> Tensor:
        return torch.tensor([0.4, 0.4, 0.2, 0.2], device=device).mul(size).repeat(count, 1)

    channels, side = network.classifier.initialiser.conv.out_channels, network.classifier.initialiser.filter_size
    cells = -(-size // network.backbone.stride)
    filter = zeros(1, channels, side, side, dtype=kind)
    features = zeros(online.memory, channels, cells, cells, dtype=kind)
    maps, vectors = [], []
    for name, joined, level in zip(head.names, head.joined, head.levels, strict=True):
        length = -(-size // level.stride)
        maps.append(zeros(1, _outputs(head.get_submodule(f"conv{name}_2t")), length, length, dtype=dtype_of(network)))
        vectors.append(zeros(1, _outputs(head.get_submodule(joined)), dtype=kind))

    samples = {"pixels": zeros(first.count - first.copies, size, size, 3), "boxes": boxes(first.count)}
    if first.copies:
        samples["factors"] = zeros(first.copies, channels)
    refined = {"starts": boxes(1 + online.boxes)}
    reference = tuple(_numbered("vector", vectors))
    if head.correlation:
        refined |= {"features": features[:1], "cells": zeros(1, head.correlation**2, channels, dtype=kind)}
        reference = (*reference, "cells")
    refined |= _numbered("map", maps) | _numbered("vector", vectors)
    learned = {"filter": filter, "features": features, "boxes": boxes(online.memory), "weights": zeros(online.memory)}
    pixels = zeros(1, size, size, 3, dtype=dtype)
    return {
        "first": Graph(FirstGraph(network, online.iterations["first"]), samples, ("features", "filter", *reference)),
        "search": Graph(
            SearchGraph(network, online.softmax),
            {"pixels": pixels, "filter": filter},
            ("scores", "features", *_numbered("map", maps)),
        ),
        "refine": Graph(RefineGraph(network), refined, ("boxes", "ratings")),
    } | {
        name: Graph(UpdateGraph(network, online.iterations[name]), learned, ("new_filter",))
        for name in FILTER_UPDATES
        if online.iterations[name]
    }


def _numbered(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Returns tensors by a name and a number from 0 on."""
    return {f"{name}{i}": tensor for i, tensor in enumerate(tensors)}


def _outputs(layers: nn.Module) -> int:
    """Returns the number of channels that the convolution in a `Sequential` returns."""
    return layers.get_submodule("0").get_parameter("weight").shape[0]
