from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import PruningError, find_groups


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if x.sum() > 0 else x


def arguments(network: nn.Module) -> dict[str, Any]:
    return {"input": torch.zeros(2, 4)}


NETWORK = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("network", "inputs", "message"),
    [
        (None, arguments, "the network must be a torch.nn.Module with parameters, not None"),
        (nn.ReLU(), arguments, "the network must be a torch.nn.Module with parameters"),
        (NETWORK, None, "groups are found in a run of the network, which needs inputs"),
        (NETWORK, arguments(NETWORK), "inputs must be a function"),
        (
            NETWORK,
            lambda _: {"x": torch.zeros(2, 4)},
            "with the arguments \\['x'\\]: TypeError: .*lambda network: {'input'",
        ),
        (NETWORK, lambda _: {"input": torch.zeros(2, 5)}, "does not run on the meta device"),
        (Deciding(), lambda _: {"x": torch.zeros(2, 4)}, "the code must not decide by values"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(network: Any, inputs: Any, message: str) -> None:
    with pytest.raises(PruningError, match=message) as raised:
        find_groups(network, inputs)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_networks_that_torch_has_made_are_refused() -> None:
    with pytest.raises(PruningError, match=r"torch\.jit made this network"):
        find_groups(torch.jit.script(nn.Sequential(nn.Linear(4, 8))), arguments)
