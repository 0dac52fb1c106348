"""Box regressor: a network that rates boxes in a frame by comparison with a reference box (ATOM's IoU-Net)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import _register_namedtuple

from pruning.groups import Group, Slice
from trackers.boxes import xywh_to_xyxy
from trackers.dimp.pooling import precise_roi_pool
from trackers.dimp.precision import at_least_single, no_autocast

FIRST = 3  # number of the first level in official names
JOINED = "fc34"  # official name of the layers that read all levels, for any number of levels
CONTEXT = 1.5  # factor by which the box is enlarged before reference cells are pooled


@dataclass(frozen=True)
class Level:
    """Settings of one map of the backbone in which boxes are pooled.

    Attributes:
        channels: channels of the map.
        stride: pixels per cell.
        reference: channels of the reference branch.
        reference_pool, pool: bins along each side of a box, in the reference and in the frame.
    """

    channels: int
    stride: int
    reference: int
    reference_pool: int
    pool: int


class Modulation(NamedTuple):
    """Features of B reference boxes.

    Attributes:
        vectors: factors of the channels of each level, (B, width) each.
        cells: the classifier's features in and around the box, (B, r * r, D); None without correlation.
    """

    vectors: list[Tensor]
    cells: Tensor | None = None

    def repeat(self, count: int) -> "Modulation":
        """Returns the modulation of all boxes, repeated `count` times."""
        cells = None if self.cells is None else self.cells.repeat(count, 1, 1)
        return Modulation([v.repeat(count, 1) for v in self.vectors], cells)


# A program of `torch.export` stores the type of this argument by name, and its example inputs as a pickle.
_register_namedtuple(Modulation, serialized_type_name=f"{Modulation.__module__}.{Modulation.__name__}")
torch.serialization.add_safe_globals([Modulation])


class Hidden(nn.Module):
    """Linear layer, batch norm and ReLU (official names)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear, self.bn = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps rows (M, inputs) to (M, outputs)."""
        return self.bn(self.linear(x)).relu()


class BoxRegressor(nn.Module):
    """Scores boxes in a frame, given one box in a reference frame.

    Parameters have official names, with the numbers 3, 4, ... for the levels in order. Pooling and all later layers are
    computed in at least single precision.

    Args:
        levels: maps of the backbone that the regressor reads, finest first.
        width: channels of the frame's branch, of modulation vectors and of hidden layers.
        correlation: side r of a grid of reference cells. Their cosines with the frame's features, after a convolution,
            are added to the map of the last level, which must have the stride of the classifier's features. 0 for no
            correlation, as in the original.
    """

    def __init__(self, levels: Sequence[Level], width: int, correlation: int = 0):
        super().__init__()
        self.levels, self.correlation = tuple(levels), correlation
        self.names = tuple(str(FIRST + i) for i in range(len(self.levels)))
        self.joined = tuple(f"{JOINED}_{x}r" for x in self.names)
        known = sum(width if level.reference_pool > 1 else level.reference for level in levels)
        for x, joined, level in zip(self.names, self.joined, self.levels, strict=True):
            self.add_module(f"conv{x}_1r", _convolution(level.channels, level.reference, 3))
            self.add_module(f"conv{x}_1t", _convolution(level.channels, width, 3))
            self.add_module(f"conv{x}_2t", _convolution(width, width, 3))
            if level.reference_pool > 1:
                self.add_module(f"fc{x}_1r", _convolution(level.reference, width, level.reference_pool, padding=0))
            self.add_module(joined, _convolution(known, width, 1))
            self.add_module(f"fc{x}_rt", Hidden(width * level.pool**2, width))
        self.iou_predictor = nn.Linear(width * len(self.levels), 1)
        if correlation:
            self.add_module(self._correlation, nn.Conv2d(correlation**2, width, 1))
        self._initialise()

    @property
    def _correlation(self) -> str:
        return f"correlation{self.names[-1]}"

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
                nn.init.zeros_(module.get_parameter("bias"))
            elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                nn.init.uniform_(module.weight)
                nn.init.zeros_(module.bias)

    # Reference branch

    def modulation(self, maps: Sequence[Tensor], boxes: Tensor, embedding: Tensor | None = None) -> Modulation:
        """Returns the modulation of reference boxes.

        Args:
            maps: maps of the backbone, (B, C, H, W) each.
            boxes: xywh in pixels of the crop, (B, 4).
            embedding: features of the classifier, (B, D, h, w); only with correlation.
        """
        pooled, corners = [], xywh_to_xyxy(boxes)[:, None]
        for x, level, m in zip(self.names, self.levels, maps, strict=True):
            m = self.get_submodule(f"conv{x}_1r")(m)
            with no_autocast(m):
                m = precise_roi_pool(m, corners, level.reference_pool, 1 / level.stride)[:, 0]
                pooled.append(self.get_submodule(f"fc{x}_1r")(m) if level.reference_pool > 1 else m)
        with no_autocast(boxes):
            joined = torch.cat(pooled, 1)
            vectors = [self.get_submodule(name)(joined)[..., 0, 0] for name in self.joined]
        if not self.correlation:
            return Modulation(vectors, None)
        assert embedding is not None
        return Modulation(vectors, self._reference_cells(boxes, embedding))

    def _reference_cells(self, boxes: Tensor, embedding: Tensor) -> Tensor:
        """Pools features (B, D, h, w) in and around boxes (B, 4) to cells (B, r * r, D)."""
        around = torch.cat([boxes[:, :2] - (CONTEXT - 1) / 2 * boxes[:, 2:], CONTEXT * boxes[:, 2:]], 1)
        scale = 1 / self.levels[-1].stride
        cells = precise_roi_pool(embedding, xywh_to_xyxy(around)[:, None], self.correlation, scale)
        return cells[:, 0].flatten(2).transpose(1, 2)

    # Frame branch

    def features(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Returns the features (N, width, H, W) of each level for maps of the backbone (N, C, H, W)."""
        return [
            self.get_submodule(f"conv{x}_2t")(self.get_submodule(f"conv{x}_1t")(m))
            for x, m in zip(self.names, maps, strict=True)
        ]

    def add_correlation(
        self, features: Sequence[Tensor], modulation: Modulation, embedding: Tensor | None
    ) -> list[Tensor]:
        """Returns the features of each level in at least single precision, with correlation added to the last level.

        Args:
            features, modulation, embedding: see `scores`.
        """
        features = [at_least_single(f) for f in features]
        if self.correlation:
            assert embedding is not None
            assert modulation.cells is not None
            with no_autocast(embedding):
                found = cosines(modulation.cells, embedding.to(modulation.cells.dtype))
                features[-1] = features[-1] + self.get_submodule(self._correlation)(found)
        return features

    def scores(
        self, features: Sequence[Tensor], modulation: Modulation, boxes: Tensor, embedding: Tensor | None = None
    ) -> Tensor:
        """Returns the ratings (N, K) of boxes.

        Args:
            features: results of the method `features` for N frames.
            modulation: modulation for each of the N frames.
            boxes: xywh in pixels of the crop, (N, K, 4).
            embedding: features of the classifier, (N, D, h, w); only with correlation.
        """
        hidden, corners = [], xywh_to_xyxy(boxes)
        features = self.add_correlation(features, modulation, embedding)
        with no_autocast(boxes):
            for x, level, m, vector in zip(self.names, self.levels, features, modulation.vectors, strict=True):
                pooled = precise_roi_pool(m, corners, level.pool, 1 / level.stride)
                # Pooling is linear, so the vector is multiplied after it, where the tensor is smaller.
                pooled = pooled * vector[:, None, :, None, None]
                hidden.append(self.get_submodule(f"fc{x}_rt")(pooled.flatten(2).flatten(0, 1)))
            return self.iou_predictor(torch.cat(hidden, 1)).view(boxes.shape[:2])

    def hidden_layers(self) -> list[Hidden]:
        """Returns the hidden layer of each level."""
        layers = (self.get_submodule(f"fc{x}_rt") for x in self.names)
        return [layer for layer in layers if isinstance(layer, Hidden)]

    # Pruning

    def input_slices(self, level: int, gated: bool = True) -> tuple[Slice, ...]:
        """Returns the slices that read the channels of a level's map, with or without the gates of the channels."""
        x = self.names[level]
        return tuple(Slice(f"conv{x}_1{branch}.0.weight", 1, gated=gated) for branch in "rt")

    def groups(self) -> list[Group]:
        """Returns the groups of all channels between the maps and the score."""
        groups, pooled, hidden = [], 0, 0
        for i, (x, joined) in enumerate(zip(self.names, self.joined, strict=True)):
            last = f"conv{x}_1r"
            if self.levels[i].reference_pool > 1:
                groups.append(self._group(last, *_produced(last), Slice(f"fc{x}_1r.0.weight", 1)))
                last = f"fc{x}_1r"
            readers = (Slice(f"{name}.0.weight", 1, (pooled,)) for name in self.joined)
            groups.append(self._group(last, *_produced(last), *readers))
            pooled += groups[-1].size
            groups.append(self._group(f"conv{x}_1t", *_produced(f"conv{x}_1t"), Slice(f"conv{x}_2t.0.weight", 1)))
            # Features and modulation are multiplied, so a gate on the features alone closes the channel.
            slices = [*_produced(f"conv{x}_2t"), *_produced(joined, gated=False)]
            if self.correlation and i == len(self.levels) - 1:
                slices += [Slice(f"{self._correlation}.{p}", 0, gated=True) for p in ("weight", "bias")]
            slices.append(Slice(f"fc{x}_rt.linear.weight", 1, inner=self.levels[i].pool ** 2))
            groups.append(self._group(f"conv{x}_2t", *slices))
            slices = (*_produced(f"fc{x}_rt", ("linear", "bn")), Slice("iou_predictor.weight", 1, (hidden,)))
            groups.append(self._group(f"fc{x}_rt", *slices))
            hidden += groups[-1].size
        return groups

    def _group(self, name: str, *slices: Slice) -> Group:
        return Group(name, "box", self.get_parameter(slices[0].path).shape[0], slices)


def cosines(cells: Tensor, embedding: Tensor) -> Tensor:
    """Returns the cosines (N, R, h, w) of cells (N, R, D) with all positions of a map (N, D, h, w); 0 for zeros."""
    maps = F.normalize(cells, dim=2) @ F.normalize(embedding, dim=1).flatten(2)
    return maps.unflatten(2, embedding.shape[2:])


def _convolution(inputs: int, outputs: int, kernel: int, padding: int | None = None) -> nn.Sequential:
    padding = kernel // 2 if padding is None else padding
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU())


def _produced(name: str, parts: tuple[str, str] = ("0", "1"), gated: bool = True) -> tuple[Slice, ...]:
    """Returns the slices of the output channels of a layer and its batch norm."""
    layer, norm = (f"{name}.{part}" for part in parts)
    return (
        *(Slice(f"{layer}.{p}", 0) for p in ("weight", "bias")),
        *(Slice(f"{norm}.{p}", 0, gated=gated) for p in ("weight", "bias")),
        *(Slice(f"{norm}.{p}", 0) for p in ("running_mean", "running_var")),
    )
