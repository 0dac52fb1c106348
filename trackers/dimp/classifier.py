"""Target classifier: computes features, learns a filter from frames with known boxes, and returns score maps."""

import math

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from pruning.groups import Group, Slice
from trackers.dimp.filters import FilterInitialiser, apply_filter
from trackers.dimp.precision import at_least_single
from trackers.layers.backbones import NORM_TENSORS


def normalise(x: Tensor, filter_size: int) -> Tensor:
    """Scales features so that their mean energy under a filter of k * k cells is 1.

    The reference multiplies by sqrt(1 / (C k k)) * sqrt(C H W / energy). The number of channels cancels and is left
    out here, so features keep their scale when channels of zeros are cut.

    Args:
        x: (N, C, H, W).
        filter_size: k.
    """
    x = at_least_single(x)
    cells = x.shape[2] * x.shape[3]
    energy = x.square().sum((1, 2, 3), keepdim=True)
    return x * (cells / (filter_size**2 * (energy + 1e-5))).sqrt()


class ClassifierFeatures(nn.Module):
    """Network from features of the backbone to the features to which filters are applied.

    Args:
        inputs: channels of the backbone's features.
        width: channels D of the result.
        filter_size: k, for `normalise`.
        blocks: number of basic blocks before the convolution (DiMP-18 has one).
        norm: whether a batch norm follows the convolution, for networks that are trained from scratch.
    """

    def __init__(self, inputs: int, width: int, filter_size: int, blocks: int = 0, norm: bool = False):
        super().__init__()
        self.filter_size = filter_size
        self.blocks = nn.Sequential(*(BasicBlock(inputs, inputs) for _ in range(blocks)))
        self.conv = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width) if norm else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / (9 * module.out_channels)))

    def forward(self, features: Tensor) -> Tensor:
        """Maps features (N, C, H, W) to (N, D, H, W), in float32 at least."""
        x = self.conv(self.blocks(features))
        return normalise(x if self.norm is None else self.norm(x), self.filter_size)


class Classifier(nn.Module):
    """Classifier of a target: network of features, initialiser of the filter, and optimiser of the filter.

    Args:
        inputs, width, filter_size, blocks, norm: see `ClassifierFeatures`.
        stride: pixels per cell.
        optimiser: `GaussNewton` or `Newton`.
        iterations: default number of optimiser steps.
        zero_init: whether filters start as zeros (PrDiMP).
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        filter_size: int,
        stride: int,
        optimiser: nn.Module,
        iterations: int,
        blocks: int = 0,
        norm: bool = False,
        zero_init: bool = False,
    ):
        super().__init__()
        self.features = ClassifierFeatures(inputs, width, filter_size, blocks, norm)
        self.initialiser = FilterInitialiser(width, filter_size, stride, zero_init)
        self.optimiser = optimiser
        self.iterations = iterations

    def learn(
        self, features: Tensor, boxes: Tensor, iterations: int | None = None, weights: Tensor | None = None
    ) -> list[Tensor]:
        """Learns the filters of B sequences from n frames each.

        Args:
            features: outputs of `features` for the frames, (n, B, D, H, W).
            boxes: the target's boxes, xywh in pixels, (n, B, 4).
            iterations: number of optimiser steps; `self.iterations` by default.
            weights: weights of the frames, (n, B); 1 / n each by default.

        Returns:
            The initial filter and the filter after every step, each (B, D, k, k).
        """
        iterations = self.iterations if iterations is None else iterations
        return self.optimiser(self.initialiser(features, boxes), features, boxes, iterations, weights)

    def scores(self, features: Tensor, filter: Tensor) -> Tensor:
        """Returns scores (n, B, F, F) of features (n, B, D, H, W) for filters (B, D, k, k); see `apply_filter`."""
        return apply_filter(features, filter)

    def groups(self) -> list[Group]:
        """Returns the groups of the filters' channels and of the blocks' inner channels.

        Channel c of a filter is multiplied with channel c of the features, so all their writers and readers are cut
        together. A masked channel is zero in the filter, too. Otherwise the norm of the filter would include it, which
        changes the steps of the optimiser.
        """
        groups = []
        for i in range(len(self.features.blocks)):
            path = f"features.blocks.{i}"
            inner = (
                Slice(f"{path}.conv1.weight", 0),
                *(Slice(f"{path}.bn1.{t}", 0) for t in NORM_TENSORS),
                Slice(f"{path}.conv2.weight", 1, gated=True),
            )
            groups.append(Group(f"{path}.conv1", "conv", self.get_parameter(inner[0].path).shape[0], inner))
        last = [Slice("features.conv.weight", 0, gated=self.features.norm is None)]
        if self.features.norm is not None:
            last += [Slice(f"features.norm.{t}", 0, gated=t in ("weight", "bias")) for t in NORM_TENSORS]
        slices = (
            *last,
            Slice("initialiser.conv.weight", 0, masked=True),
            Slice("initialiser.conv.bias", 0, masked=True),
            Slice("initialiser.conv.weight", 1),
        )
        return [*groups, Group("features", "classifier", self.features.conv.out_channels, slices)]

    def input_slices(self, gated: bool = True) -> tuple[Slice, ...]:
        """Returns the slices of the backbone's feature channels.

        Args:
            gated: whether weights that read channels carry the gates; if not, the norms that produce them do.
        """
        slices = []
        for i in range(len(self.features.blocks)):
            path = f"features.blocks.{i}"
            slices += [
                Slice(f"{path}.conv1.weight", 1, gated=gated),
                Slice(f"{path}.conv2.weight", 0),
                *(Slice(f"{path}.bn2.{t}", 0, gated=not gated and t in ("weight", "bias")) for t in NORM_TENSORS),
            ]
        return (*slices, Slice("features.conv.weight", 1, gated=gated))
