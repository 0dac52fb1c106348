"""Convolutional backbones: torchvision's ResNets without the stages that no tracker runs, and a small ResNet."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from pruning.groups import Group, Slice
from trackers.contents import load_strictly
from trackers.errors import TrackerError
from trackers.layers.pretrained import resnet_weights

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


class ResNet(nn.Module):
    """ResNet without its last stage and classifier, under torchvision's parameter names. Three stages have stride 16.

    Args:
        name: ResNet of torchvision: "resnet18", "resnet50", ...
        frozen_norm: whether batch norms are constant, as in DETR.
        stages: number of stages that are built.

    Attributes:
        width: channels of the features.
        stride: pixels per cell.
    """

    def __init__(self, name: str, frozen_norm: bool = True, stages: int = 3):
        super().__init__()
        if not is_resnet(name):
            raise TrackerError(f"torchvision has no ResNet named '{name}'; try resnet50")
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        body: Any = torchvision.models.get_model(name, weights=None, norm_layer=norm)
        self.name = name
        self.conv1, self.bn1, self.relu, self.maxpool = body.conv1, body.bn1, body.relu, body.maxpool
        for i in range(1, stages + 1):
            self.add_module(f"layer{i}", body.get_submodule(f"layer{i}"))
        self.stages, self.stride = stages, 2 ** (stages + 1)
        _write_no_inputs(self)

    @property
    def width(self) -> int:
        """Channels of the features."""
        return self.widths[-1]

    @property
    def widths(self) -> list[int]:
        """Channels of the output of each stage."""
        last = {path.partition(".")[0]: block for path, block in self._named_blocks()}
        return [block.get_submodule(_last_conv(block)).out_channels for block in last.values()]

    @property
    def strides(self) -> list[int]:
        """Pixels per cell of the output of each stage."""
        return [self.stride >> i for i in reversed(range(self.stages))]

    @property
    def stage_names(self) -> list[str]:
        """Names of the stages, which are also the names of the groups of their residual streams."""
        return [f"layer{i}" for i in range(1, self.stages + 1)]

    @property
    def streams(self) -> list[dict[str, Slice]]:
        """For each stage the name of the group of its output, with the slice of a convolution that reads the output."""
        return [{name: Slice("reader.weight", 1, gated=True)} for name in self.stage_names]

    def forward(self, pictures: Tensor) -> Tensor:
        """Returns the features (B, C, H / stride, W / stride) of pictures (B, 3, H, W)."""
        return self.stage_maps(pictures)[-1]

    def stage_maps(self, pictures: Tensor) -> list[Tensor]:
        """Returns the output of each stage for pictures (B, 3, H, W)."""
        x = self.relu(self.bn1(self.conv1(pictures)))
        # On a CPU pooling is an order of magnitude faster with channels last, conversions included.
        x = self.maxpool(x.contiguous(memory_format=torch.channels_last)).contiguous()
        maps = []
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return maps

    def stage_modules(self, count: int) -> tuple[str, ...]:
        """Returns the names of the modules of the stem and of the first `count` stages."""
        return ("conv1", "bn1", *self.stage_names[:count])

    def pretrained(self) -> Mapping[str, Tensor]:
        """Returns ImageNet weights; see `resnet_weights`."""
        return resnet_weights(self.name)

    def load_pretrained(self, weights: Mapping[str, Tensor], source: str | Path) -> None:
        """Loads the weights of a complete ResNet with torchvision's names; `layer4` and `fc` are skipped.

        Args:
            weights: state dict of the ResNet.
            source: file or library, for error messages.

        Raises:
            CheckpointError: the weights belong to another network.
        """
        wanted = self.state_dict()
        # Constant batch norms have no `num_batches_tracked`.
        known = {n for n in weights if n.startswith(("layer4.", "fc.")) or n.endswith("num_batches_tracked")}
        load_strictly(self, {n: w for n, w in weights.items() if n in wanted or n not in known}, source)

    def groups(self) -> list[Group]:
        """Returns the groups of the inner channels of all blocks and of the residual streams.

        The caller adds to the last group the slices that read the last stream. The weights that read a channel carry
        its gate, so that gates work with constant and with learned batch norms. A block without downsampling may lose
        all inner channels; it then adds a constant.
        """
        groups = []
        stream, name = [Slice("conv1.weight", 0), *_norm("bn1")], "stem"
        for path, block in self._named_blocks():
            convs = ["conv1", "conv2", "conv3"][: 3 if isinstance(block, Bottleneck) else 2]
            for conv, reader in pairwise(convs):
                inner = (
                    Slice(f"{path}.{conv}.weight", 0),
                    *_norm(f"{path}.bn{conv[-1]}"),
                    Slice(f"{path}.{reader}.weight", 1, gated=True),
                )
                vanish = None if block.downsample is not None else (f"{path}.{conv}", f"{path}.bn{conv[-1]}")
                branch = path if len(convs) > 2 and vanish is not None else None
                size = getattr(block.get_submodule(conv), "out_channels", 0)
                groups.append(Group(f"{path}.{conv}", "conv", size, inner, vanish=vanish, branch=branch))
            stream.append(Slice(f"{path}.conv1.weight", 1, gated=True))
            if block.downsample is not None:  # a new stream begins
                stream.append(Slice(f"{path}.downsample.0.weight", 1, gated=True))
                groups.append(self._stream(name, stream))
                stream = [Slice(f"{path}.downsample.0.weight", 0), *_norm(f"{path}.downsample.1")]
                name = path.split(".")[0]
            last = convs[-1]
            stream += [Slice(f"{path}.{last}.{tensor}", 0) for tensor in ("weight", "bias")]
            stream += _norm(f"{path}.bn{last[-1]}")
        groups = [g for g in (*groups, self._stream(name, stream)) if g.size]
        existing = {*dict(self.named_parameters()), *dict(self.named_buffers())}
        return [replace(g, slices=tuple(s for s in g.slices if s.path in existing)) for g in groups]

    def _stream(self, name: str, slices: list[Slice]) -> Group:
        return Group(name, "stream", self.get_parameter(slices[0].path).shape[0], tuple(slices))

    def _named_blocks(self) -> Iterator[tuple[str, Any]]:
        for name in self.stage_names:
            for j, block in self.get_submodule(name).named_children():
                yield f"{name}.{j}", block


class SmallResNet(ResNet):
    """ResNet for trackers that are trained from scratch: stride 8, one convolution as stem, one stage of basic blocks.

    Args:
        stem: channels of the stem.
        width: channels of the features.
        blocks: number of basic blocks.
    """

    def __init__(self, stem: int, width: int, blocks: int):
        nn.Module.__init__(self)
        self.name = "small"
        self.conv1, self.bn1 = nn.Conv2d(3, stem, 4, stride=4, bias=False), nn.BatchNorm2d(stem)
        self.relu, self.maxpool = nn.ReLU(), nn.Identity()
        shortcut = nn.Sequential(nn.Conv2d(stem, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
        first = BasicBlock(stem, width, stride=2, downsample=shortcut)
        self.layer1 = nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1)))
        self.stages, self.stride = 1, 8
        _write_no_inputs(self)


def is_resnet(name: str) -> bool:
    """Returns whether torchvision has a ResNet of this name."""
    return name.startswith("resnet") and name in torchvision.models.list_models()


def _norm(path: str) -> list[Slice]:
    """Returns the slices of all tensors of a batch norm, parameters and constants."""
    return [Slice(f"{path}.{tensor}", 0) for tensor in NORM_TENSORS]


def _write_no_inputs(backbone: nn.Module) -> None:
    """Makes all ReLUs write into new memory.

    In a block that has lost its first convolution, torchvision's would overwrite the block's input, from which the
    block before needs its gradient.
    """
    for module in backbone.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False


def _last_conv(block: nn.Module) -> str:
    return "conv3" if isinstance(block, Bottleneck) else "conv2"
