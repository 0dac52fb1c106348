import pytest
import torch
from torch import Tensor, nn

from pruning import Pruner, PruningError, find_groups
from pruning.criteria import Magnitude
from pruning.discovery.finding import LeftWhole
from pruning.discovery.reasons import lines_of_whole


class Sums(nn.Module):
    """A network whose units are added up one after the other, so that none of them can be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).cumsum(-1))


def inputs(network: nn.Module) -> dict[str, Tensor]:
    return {"x": torch.zeros(2, 4)}


def test_a_network_without_groups_is_told_why_and_what_to_do() -> None:
    network = Sums()
    with pytest.raises(PruningError) as raised:
        Pruner(0.5, Magnitude()).attach(network, None, inputs)
    message = str(raised.value)
    assert message.startswith("no group of units of Sums can be cut: cumsum in the network: 8 units of a.weight, dim 0")
    assert message.index("cumsum") < message.index("the network returns them: 3 units of b.weight")
    assert "pruner.attach(network, [Group(...)], inputs); docs/declaring-groups.md" in message
    Pruner(1, Magnitude()).attach(network, None, inputs)  # which keeps all units


def test_reasons_that_differ_in_numbers_are_one_line_with_all_their_units() -> None:
    whole = [LeftWhole((f"layers.{i}.weight, dim 0",), 2 + i, f"index [4, {i}] in layers.{i}") for i in range(3)]
    assert lines_of_whole(whole) == ["index in layers.*: 9 units of layers.0.weight, dim 0 and 2 more"]


def test_long_reasons_end_at_a_word() -> None:
    (line,) = lines_of_whole([LeftWhole(("a, dim 0",), 1, "a reason of many words " * 20)])
    assert line.endswith(" ...: 1 units of a, dim 0")
    assert len(line) < 230


def test_no_reason_is_given_for_what_is_found() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    (line,) = lines_of_whole(find_groups(network, lambda _: {"input": torch.zeros(2, 4)}).whole)
    assert line == "the network returns them: 3 units of 1.weight, dim 0 and 1 more"
