"""Sine position embeddings of DETR, which depend on the padding of a crop."""

import math

import torch
from torch import Tensor, nn

from pruning.groups import Slice


class SinePosition(nn.Module):
    """Sine position embeddings. Half of the channels encode the row, half the column; padded cells are not counted.

    The channels belong to the group of the transformer's width. Buffers, which are not saved, hold the constants of
    each channel. The buffer `amplitude` is 1; a mask sets its entries of closed channels to 0.

    Args:
        width: number of channels.
    """

    across: Tensor
    cosine: Tensor
    period: Tensor
    amplitude: Tensor

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
        """Returns the embeddings (B, F * F, C) for padded cells (B, F, F) bool."""
        free = (~padding).to(self.amplitude.dtype)
        down, across = (
            2 * math.pi * counted / (counted.select(dim, -1).unsqueeze(dim) + 1e-6)
            for dim, counted in ((1, free.cumsum(1)), (2, free.cumsum(2)))
        )
        angle = torch.where(self.across, across[..., None], down[..., None]) / self.period
        return (self.amplitude * torch.where(self.cosine, angle.cos(), angle.sin())).flatten(1, 2)

    def unpadded(self, cells: int) -> Tensor:
        """Returns the embeddings (1, F * F, C) of a crop without padding, which are computed once and cached."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or self.amplitude.is_meta:
            return self._computed_unpadded(cells)
        state = (self.amplitude.device, self.amplitude.data_ptr(), self.amplitude._version)
        if self._cache is None or self._cache[0] != state:
            # The reference keeps the amplitude alive, so that no other tensor is allocated at its address.
            self._cache = (state, self.amplitude.detach(), {})
        constants = self._cache[2]
        if cells not in constants:
            with torch.inference_mode(False):  # a training cannot use tensors that were made in inference mode
                constants[cells] = self._computed_unpadded(cells)
        return constants[cells]

    def _computed_unpadded(self, cells: int) -> Tensor:
        return self(torch.zeros(1, cells, cells, dtype=torch.bool, device=self.amplitude.device))

    def slices(self) -> list[Slice]:
        """Returns the slices of the buffers, for the group of the transformer's width."""
        return [Slice("amplitude", 0, masked=True), *(Slice(name, 0) for name in ("across", "cosine", "period"))]
