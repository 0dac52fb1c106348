"""Random scores, with which all other criteria are compared."""

import torch
from torch import Tensor

from pruning.criteria.criterion import Criterion
from pruning.errors import PruningError
from pruning.gates import Gates


class Random(Criterion):
    """Criterion of random scores that stay the same for the whole stage. A useful criterion must do better.

    Args:
        seed: seed of the scores.
    """

    def __init__(self, seed: int = 0):
        if not isinstance(seed, int):
            raise PruningError(f"pruning.criterion.seed={seed!r} must be a whole number, e.g. 0")
        self.seed = seed

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Returns scores by group name, uniform in [0, 1)."""
        scores = torch.rand(len(gates.values), generator=torch.Generator().manual_seed(self.seed))
        return gates.split(scores.to(gates.values.device))
