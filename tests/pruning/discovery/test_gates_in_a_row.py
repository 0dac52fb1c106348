"""Gates of found groups act once: no gated weight scales what another gated weight has made."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import find_groups


class Excited(nn.Module):
    """A grouped convolution whose outputs are squeezed in front of their norm, as in RegNetV.

    The readers have more weights than the producers, of which the convolution and the norm stand in a row.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.squeeze, self.expand = nn.Conv2d(8, 20, 1), nn.Conv2d(20, 8, 1)
        self.norm, self.last = nn.BatchNorm2d(8), nn.Conv2d(8, 30, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.silu(self.stem(x)))
        x = x * self.expand(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        return self.last(F.silu(self.norm(x))).mean((2, 3))


def test_a_convolution_and_the_norm_behind_it_do_not_both_carry_gates() -> None:
    x = torch.randn(2, 3, 4, 4)
    found = find_groups(Excited().eval(), lambda network: {"x": x.to(next(network.parameters()).device)})
    gates = {g.name: {s.path for s in g.slices if s.gated} for g in found.groups}
    assert {"squeeze.weight", "last.weight"} in gates.values()
    assert not any({"conv.weight", "norm.weight"} <= paths for paths in gates.values())
