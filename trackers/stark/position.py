"""Sine position embeddings that follow the padding of a crop (DETR's)."""

import math

import torch
from torch import Tensor, nn

from pruning.groups import Slice


class SinePosition(nn.Module):
    """Half of the channels say the row, the others the column of a cell, counted over cells that are not padded.

    Its channels are those of the transformer and are pruned with them: what tells them apart lies in buffers, which
    are made anew when a tracker is built. `amplitude` is 1, and is there for the mask of a channel that leaves.

    Args:
        width: number of channels.
    """

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        i = torch.arange(half, device="cpu")
        period = 10000 ** (2 * (i // 2) / half)
        for name, value in (
            ("across", torch.arange(width, device="cpu") >= half),
            ("cosine", (i % 2 == 1).repeat(2)),
            ("period", period.repeat(2)),
            ("amplitude", torch.ones(width, device="cpu")),
        ):
            self.register_buffer(name, value, persistent=False)
        self._cache: tuple | None = None

    def forward(self, padding: Tensor) -> Tensor:
        """Padded cells (B, F, F) to embeddings (B, F * F, C)."""
        free = (~padding).to(self.amplitude.dtype)
        down, across = (
            2 * math.pi * counted / (counted.select(dim, -1).unsqueeze(dim) + 1e-6)
            for dim, counted in ((1, free.cumsum(1)), (2, free.cumsum(2)))
        )
        angle = torch.where(self.across, across[..., None], down[..., None]) / self.period
        return (self.amplitude * torch.where(self.cosine, angle.cos(), angle.sin())).flatten(1, 2)

    def unpadded(self, cells: int) -> Tensor:
        """The embeddings (1, F * F, C) of a crop without padding: a constant, computed once."""
        if torch.compiler.is_compiling() or self.amplitude.is_meta:
            return self._of_nowhere(cells)
        state = (self.amplitude.device, self.amplitude.data_ptr(), self.amplitude._version)
        if self._cache is None or self._cache[0] != state:
            # The amplitude is held, too: memory that is freed could be given to another one at the same address.
            self._cache = (state, self.amplitude.detach(), {})
        constants = self._cache[2]
        if cells not in constants:
            with torch.inference_mode(False):  # it may be asked for first while tracking, and then while training
                constants[cells] = self._of_nowhere(cells)
        return constants[cells]

    def _of_nowhere(self, cells: int) -> Tensor:
        return self(torch.zeros(1, cells, cells, dtype=torch.bool, device=self.amplitude.device))

    def slices(self) -> list[Slice]:
        """Its share in the group of the transformer's width."""
        return [Slice("amplitude", 0, masked=True), *(Slice(name, 0) for name in ("across", "cosine", "period"))]
