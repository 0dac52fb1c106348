"""The one thing a gate cannot do by weights alone: a LayerNorm over a masked stream must count kept channels only."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels that `mask` keeps; equal to the norm of the compacted stream.

    The input must be zero where the mask is zero. Those channels are filled with the mean of the kept ones, which makes
    the native kernel compute kept-only statistics. Between 0 and 1 a channel, scaled by its mask, counts in part: what
    is computed moves without a jump while it leaves. A norm becomes one, and plain again, by having its class set, so
    that the network's names, parameters and forward code stay as they are.
    """

    mask: Tensor  # (C,), 1 = kept
    share: float  # of the channels that are kept, the mean of the mask

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C), zero where the mask is."""
        mean = x.sum(-1, keepdim=True) / (self.share * x.shape[-1])
        filled = torch.addcmul(x, (1 - self.mask).to(x.dtype), mean)
        # The kernel's variance is share times the kept one: eps * share and weight * sqrt(share) undo that.
        weight = self.weight * self.mask * self.share**0.5
        bias = None if self.bias is None else self.bias * self.mask
        return F.layer_norm(filled, self.normalized_shape, weight, bias, self.eps * self.share)


def set_mask(norm: nn.LayerNorm, mask: Tensor) -> None:
    """Turns `norm` into a `MaskedLayerNorm` with this mask (C,), from 0 to 1."""
    share = float(mask.double().mean())
    mask = mask.to(norm.weight.dtype)
    if not isinstance(norm, MaskedLayerNorm):
        norm.plain_class = type(norm)
        norm.__class__ = MaskedLayerNorm
        norm.register_buffer("mask", mask, persistent=False)
    norm.mask = mask
    norm.share = share or 1 / mask.numel()  # of no channels it must only be finite: the output is zero then


def clear_mask(norm: nn.LayerNorm) -> None:
    """Undoes `set_mask`."""
    if isinstance(norm, MaskedLayerNorm):
        norm.__class__ = norm.plain_class
        del norm.mask, norm.share, norm.plain_class
