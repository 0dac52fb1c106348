"""Networks whose forward updates buffers: masked and cut network are compared from the same state."""

import pytest
import torch
from torch import Tensor, nn

from pruning import Pruner
from pruning.criteria.magnitude import Magnitude


class Updating(nn.Module):
    """A network that counts its forwards, and moves a mean of its hidden units, which it subtracts."""

    def __init__(self, replaces: bool):
        super().__init__()
        self.first, self.last, self.replaces = nn.Linear(6, 10), nn.Linear(10, 3), replaces
        self.register_buffer("forwards", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        self.forwards += 1
        if self.replaces:
            self.mean = 0.5 * self.mean + 0.5 * hidden.mean(0)
        else:
            self.mean.lerp_(hidden.mean(0), 0.5)
        return self.last((hidden - self.mean).relu()) * self.forwards


@pytest.mark.parametrize("replaces", [False, True])
def test_a_network_that_updates_buffers_in_its_forward_is_pruned(replaces: bool) -> None:
    torch.manual_seed(0)
    network, x = Updating(replaces).eval(), torch.randn(4, 6)
    with torch.no_grad():
        network(x)
    pruner = Pruner(0.6, Magnitude())
    pruner.attach(network, None, lambda _: {"x": x})
    pruner.update()
    assert pruner.finish([{"x": x}, {"x": 2 * x}])["masked_vs_compacted"] < 1e-5
    assert int(network.forwards) == 1
    assert len(network.mean) == network.first.out_features < 10
