"""The control: units leave by lot."""

import torch
from torch import Tensor

from pruning.criteria.criterion import Criterion
from pruning.gates import Gates


class Random(Criterion):
    """The same random scores throughout: what any other criterion has to beat.

    Args:
        seed: of the scores.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Uniform in [0, 1)."""
        scores = torch.rand(len(gates.values), generator=torch.Generator().manual_seed(self.seed))
        return gates.split(scores.to(gates.values.device))
