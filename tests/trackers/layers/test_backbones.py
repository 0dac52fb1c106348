"""Backbones of which blocks have lost their channels."""

import pytest
import torch

from pruning.plan import Plan
from pruning.surgery import compact
from trackers.layers.backbones import ResNet, SmallResNet


@pytest.mark.parametrize("build", [lambda: SmallResNet(4, 8, blocks=3), lambda: ResNet("resnet50", stages=1)])
def test_a_backbone_with_empty_blocks_is_trained(build):
    network = build()
    groups = network.groups()
    empty = Plan({group.name: () for group in groups if group.vanish is not None})
    assert empty.kept
    compact(network, groups, empty).train()
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert network.conv1.weight.grad.abs().sum() > 0
