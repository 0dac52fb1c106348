"""Attentions whose scale comes from the width of the queries: with one token no output shows a wrong scale."""

import copy
from collections.abc import Callable
from math import sqrt

import pytest
import torch
from torch import Tensor, nn

from pruning import Plan, compact, find_groups
from pruning.gates import Gates
from pruning.trial.comparison import difference

Scale = Callable[[Tensor], float | Tensor]
SCALES: dict[str, Scale] = {
    "root": lambda q: 1 / sqrt(q.shape[-1]),
    "power": lambda q: q.shape[-1] ** -0.5,
    "size": lambda q: q.size(-1) ** -0.5,
    "float": lambda q: 1 / float(q.shape[-1]),
    "division": lambda q: 1 / q.shape[-1],
    "tensor": lambda q: 1 / torch.tensor(q.shape[-1]),
    "constant": lambda _: 0.3,
}


class Attention(nn.Module):
    def __init__(self, scale: Scale):
        super().__init__()
        self.scale = [scale]
        self.q, self.k, self.v, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.out((q @ k.transpose(-1, -2) * self.scale[0](q)).softmax(-1) @ v)


@pytest.mark.parametrize("name", SCALES)
def test_groups_of_one_token_are_right_for_several(name: str) -> None:
    torch.manual_seed(0)
    network, x = Attention(SCALES[name]).double().eval(), torch.randn(2, 5, 6).double()
    groups = find_groups(network, lambda _: {"x": x[:, :1]}).groups
    assert {g.name for g in groups} == ({"q", "v"} if name == "constant" else {"v"})
    plan = Plan({g.name: (1, 2, 5) for g in groups})
    cut, gates = compact(copy.deepcopy(network), groups, plan), Gates(network, groups)
    gates.close(plan)
    with torch.no_grad(), gates.folded():
        assert float(difference(network(x), cut(x))) < 1e-12
