"""Depth pruning of networks of timm from end to end, with found groups."""

from pathlib import Path

import pytest
import timm
import torch

from pruning import Pruner, find_groups, load_pruned, save_pruned
from pruning.criteria.depth import Depth
from tests.pruning.networks import shake


@pytest.mark.attack
@pytest.mark.parametrize(
    ("name", "options"),
    [("vit_tiny_patch16_224", {"img_size": 32, "depth": 4}), ("convnext_atto", {}), ("resnet18", {})],
)
def test_whole_branches_are_removed_saved_loaded_trained_and_exported(name: str, options: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = shake(timm.create_model(name, **options).double()).eval()
    x = torch.randn(2, 3, 32, 32).double()
    pruner = Pruner(0.75, Depth(), whole_branches=True)
    pruner.attach(network, find_groups(network, lambda _: {"x": x}).groups, lambda _: {"x": x})
    pruner.criterion.start(pruner.gates, pruner.cost, 0.75, 1)
    pruner.gates.fold()
    network(x).square().mean().backward()
    pruner.gates.unfold()
    pruner.criterion.after_step(pruner.gates)
    pruner.update()
    assert pruner.finish([{"x": x}])["masked_vs_compacted"] < 1e-12
    assert 0 in pruner.kept_counts().values()
    save_pruned(tmp_path, network, pruner.groups, pruner.plan)
    child = load_pruned(tmp_path, timm.create_model(name, **options).double())
    with torch.no_grad():
        expected = network(x)
        assert torch.equal(child(x), expected)
        assert torch.allclose(torch.export.export(child, (x,)).module()(x), expected)
    child.train()(x).square().mean().backward()
    torch.optim.AdamW(child.parameters()).step()
    assert not torch.allclose(child.eval()(x), expected)
