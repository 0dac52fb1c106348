"""The trial of gates that act twice, on a network whose kinks look like a square between larger gates."""

import pytest
import torch
from torch import Tensor, nn

from pruning import Plan
from pruning.groups import Group, Slice
from pruning.trial.cut_errors import CutError
from pruning.trial.trials import Trial


class Kinks(nn.Module):
    """Two units that two layers make together. Gates of 1/32, 1/16 and 1/8 have 1, 26 and 126 times the same effect."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Linear(1, 2, bias=False), nn.Linear(1, 2, bias=False), nn.Linear(2, 1)
        for p in self.parameters():
            nn.init.constant_(p, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        units = self.a(x) + self.b(x)
        return self.last((units - 0.03).relu() + (units - 0.0625).relu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 32])  # with 32, gates of 1/1024, 1/512 and 1/256 have these effects
def test_kinks_are_no_square(dtype: torch.dtype, size: int) -> None:
    network, slices = Kinks().to(dtype).eval(), [Slice("a.weight", 0, gated=True), Slice("b.weight", 0, gated=True)]
    inputs = {"x": size * torch.tensor([[1.0], [1.01]], dtype=dtype)}
    with torch.no_grad():
        once = Group("units", "mlp", 2, (*slices, Slice("last.weight", 1)))
        Trial(network, [once], lambda _: inputs).scale(Plan({"units": (0,)}))
        inputs["x"] *= 1e6  # the second unit is far from its kinks
        twice = Group("units", "mlp", 2, (*slices, Slice("last.weight", 1, gated=True)))
        with pytest.raises(CutError, match="square of its value"):
            Trial(network, [twice], lambda _: inputs).scale(Plan({"units": (0,)}))
