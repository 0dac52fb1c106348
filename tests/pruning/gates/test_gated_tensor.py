import pytest
import torch
from torch import nn

from pruning.gates import Gates
from pruning.gates.gated_tensor import GatedTensor
from tests.pruning.networks import ConvNet

SIZES = (4, 6, 3, 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dims", [(0,), (1,), (1, 0), (0, 1), (3, 1), (2,)])
def test_gradients_of_factors_are_those_of_autograd(dims: tuple[int, ...], layout: torch.memory_format) -> None:
    conv = nn.Conv2d(SIZES[1], SIZES[0], SIZES[2:], dtype=torch.float64).to(memory_format=layout)
    gated = GatedTensor(conv, "weight", {d: torch.arange(SIZES[d]) for d in dims})
    entries = [torch.rand(SIZES[d], dtype=torch.float64, requires_grad=True) for d in dims]
    before, up = conv.weight.detach().clone().requires_grad_(), torch.randn(SIZES, dtype=torch.float64)
    product = before
    for factor in gated.factors(entries):
        product = product * factor
    product.backward(up)
    with torch.no_grad():
        factors = gated.factors([e.detach() for e in entries])
        gated.fold(factors)
        torch.testing.assert_close(conv.weight, product, rtol=1e-14, atol=0)
        conv.weight.grad = up.clone(memory_format=layout)
        sums = gated.unfold(factors, True)
        gated.restore()
    assert torch.equal(conv.weight, before)
    torch.testing.assert_close(conv.weight.grad, before.grad)
    torch.testing.assert_close(sums, [e.grad for e in entries])


def test_training_steps_share_memory_and_caches_see_the_change() -> None:
    network = ConvNet()
    gates, seen = Gates(network, network.groups()), []
    for _ in range(2):
        gates.fold()
        weight = gates.parameters()[0]
        seen.append((weight.data_ptr(), weight._version))
        gates.unfold()
    (first, old), (second, new) = seen
    assert first == second
    assert old != new


def test_after_an_evaluation_no_memory_is_kept() -> None:
    network = ConvNet()
    gates = Gates(network, network.groups())
    with gates.folded():
        shared = gates.parameters()[0].data
    gates.fold()
    assert gates.parameters()[0].data_ptr() != shared.data_ptr()
