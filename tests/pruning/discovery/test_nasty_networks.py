"""Networks that hide a fault: whatever is found must be right for all inputs, also if the given ones are constant."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log, sqrt

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning import Found, Plan, PruningError, compact, find_groups
from pruning.gates import Gates
from pruning.trial.comparison import difference

Forward = Callable[["Network", Tensor], object]


class Network(nn.Module):
    """A hidden layer and an output layer around a function."""

    def __init__(self, forward: Forward, first: nn.Module, last: nn.Module, **attributes):
        super().__init__()
        self.function = [forward]
        self.first, self.last = first, last
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> object:
        return self.function[0](self, x)


@dataclass
class Outputs:
    hidden: Tensor
    result: Tensor


def mlp(forward: Forward, **attributes) -> Network:
    return Network(forward, nn.Linear(6, 10, bias=False), nn.Linear(10, 3), **attributes)


def convolutions(forward: Forward, **attributes) -> Network:
    return Network(forward, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), **attributes)


def attention(net: Network, x: Tensor) -> Tensor:
    h = net.first(x)
    return net.last((h @ h.transpose(-1, -2) / sqrt(h.shape[-1])).softmax(-1) @ h)


def heads(net: Network, x: Tensor) -> Tensor:
    h = net.first(x).view(*x.shape[:2], 5, -1).transpose(1, 2)
    h = F.scaled_dot_product_attention(h, h, h, scale=0.3)
    return net.last(h.transpose(1, 2).flatten(2))


def in_training(extra: Callable[[Tensor], Tensor]) -> Forward:
    def forward(net: Network, x: Tensor) -> Tensor:
        h = net.first(x)
        return net.last(extra(h) if net.training else h)

    return forward


def written_into_a_slice(net: Network, x: Tensor) -> Tensor:
    h = net.first(x)
    moved = torch.zeros_like(h)
    moved[:, :, 1:] = h[:, :, :-1]
    return net.last(moved)


def shifted_in_time(net: Network, x: Tensor) -> Tensor:
    h = net.first(x)
    moved = torch.zeros_like(h)
    moved[:-1, : net.fold] = h[1:, : net.fold]
    moved[:, net.fold :] = h[:, net.fold :]
    return net.last(moved)


def numbers(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], list[int]]] = {
    "width in a square root": (lambda: mlp(attention), numbers(2, 5, 6), []),
    "width in a logarithm": (lambda: mlp(lambda n, x: n.last(n.first(x) * log(n.first(x).size(1)))), numbers(4, 6), []),
    "width as divisor": (lambda: mlp(lambda n, x: n.last(n.first(x)) / len(n.first.weight)), numbers(4, 6), []),
    "a number of heads in the code": (lambda: mlp(heads), numbers(2, 5, 6), [2]),
    "width in training": (lambda: mlp(in_training(lambda h: h * (1 + 1 / h.shape[-1]))), numbers(4, 6), []),
    "a size in training": (lambda: mlp(in_training(lambda h: h + torch.ones(10))), numbers(4, 6), []),
    "noise in training": (lambda: mlp(in_training(lambda h: F.dropout(h))), numbers(4, 6), [10]),
    "half precision": (lambda: mlp(attention).half(), lambda: torch.randn(2, 5, 6).half(), []),
    "written into a slice": (lambda: convolutions(written_into_a_slice), numbers(2, 3, 8, 8), [8]),
    "shifted in time": (lambda: convolutions(shifted_in_time, fold=2), numbers(4, 3, 8, 8), [2, 6]),
    "complex weights": (
        lambda: mlp(lambda n, x: n.last((n.first(x) * n.w).abs()), w=nn.Parameter(torch.randn(10) * 1j)),
        numbers(4, 6),
        [],
    ),
    "a bias that is not used": (
        lambda: Network(lambda n, x: n.last(F.relu(x @ n.first.weight.t())), nn.Linear(6, 10), nn.Linear(10, 3)),
        numbers(4, 6),
        [],
    ),
    "outputs in a dataclass": (
        lambda: mlp(lambda n, x: Outputs(n.first(x).sum(-1), n.last(F.relu(n.first(x))))),
        numbers(4, 6),
        [10],
    ),
    "units in a dataclass": (
        lambda: mlp(lambda n, x: Outputs(n.first(x), n.last(F.relu(n.first(x))))),
        numbers(4, 6),
        [],
    ),
    "a traced function": (
        lambda: mlp(lambda n, x: n.last(n.relu(n.first(x))), relu=torch.jit.trace(nn.ReLU(), torch.ones(1))),
        numbers(4, 6),
        [10],
    ),
}


def assert_cut_equals_masked(network: nn.Module, found: Found, x: Tensor) -> None:
    kept = {g.name: tuple(sorted(torch.randperm(g.size)[: g.size // 2].tolist())) for g in found.groups}
    cut = compact(copy.deepcopy(network), found.groups, Plan(kept))
    gates = Gates(network, found.groups)
    gates.close(Plan(kept))
    with torch.no_grad():
        output = cut(x)
        with gates.folded():
            assert float(difference(network(x), output)) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_found_from_zeros_is_right_for_other_inputs(name: str) -> None:
    torch.manual_seed(0)
    build, draw, sizes = NETWORKS[name]
    network = build().eval()
    found = find_groups(network, lambda _: {"x": torch.zeros_like(draw())})
    assert [g.size for g in found.groups] == sizes
    if sizes:
        assert_cut_equals_masked(network, found, draw())


def test_a_network_that_cannot_be_copied_is_one_clear_error() -> None:
    network = mlp(lambda n, x: n.last(n.first(x)))
    network.last_output = network(torch.ones(1, 6))  # a part of a graph
    with pytest.raises(PruningError, match="Network cannot be copied"):
        find_groups(network, lambda _: {"x": torch.ones(1, 6)})


class Strict(nn.Module):
    """A network that refuses numbers of a subclass of int, and new values of its number of layers."""

    def __init__(self):
        super().__init__()
        self.layer, self.layers = nn.Linear(6, 3), 1

    def __setattr__(self, name: str, value: object) -> None:
        if name == "layers" and name in vars(self):
            raise AttributeError(f"{name} is read-only")
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        if type(self.layers) is not int:
            raise KeyError("layers")
        return self.layer(x)


def test_a_network_that_refuses_tracked_sizes_is_one_clear_error_and_stays_as_it_is() -> None:
    network, fast = Strict(), torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(PruningError, match=r"Strict runs, but not with sizes .* KeyError"):
        find_groups(network, lambda _: {"x": torch.ones(2, 6)})
    assert type(network.layers) is int
    assert not network._forward_hooks
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert "shape" not in vars(torch.Tensor)


def test_groups_can_be_found_in_several_threads_while_another_one_uses_shapes() -> None:
    network, draw = convolutions(written_into_a_slice).eval(), torch.randn(2, 3, 8, 8)
    kinds: set[type] = set()
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(find_groups, copy.deepcopy(network), lambda _: {"x": draw}) for _ in range(3)]
        while not all(future.done() for future in found):
            kinds.add(type(draw.shape[0]))
    assert kinds == {int}
    assert [[g.size for g in future.result().groups] for future in found] == [[8]] * 3
