"""LayerNorm over masked channels. No change of weights can express this effect of a mask."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels that `mask` keeps; equals the LayerNorm of the compacted network.

    The input must be zero where the mask is zero. The forward fills these channels with the mean of the kept ones, so
    that the native kernel computes the statistics of the kept channels. A channel with a mask between 0 and 1 counts in
    part, so that the output changes without a jump while the channel leaves. `set_mask` and `clear_mask` change the
    class of an existing norm, so that names, parameters and forward code of the network stay as they are.

    Attributes:
        mask: (C,), 1 for a kept channel.
        share: fraction of the channels that are kept, i.e. the mean of the mask.
    """

    mask: Tensor
    share: float
    plain_class: Any  # the class of the norm without its mask

    def forward(self, input: Tensor) -> Tensor:
        """Normalizes the input (..., C); the output (..., C) is zero where the mask is zero."""
        mean = input.sum(-1, keepdim=True) / (self.share * input.shape[-1])
        filled = torch.addcmul(input, (1 - self.mask).to(input.dtype), mean)
        # The kernel's variance is `share` times the variance of the kept channels. Scaled eps and weight correct that.
        weight = self.weight * self.mask * self.share**0.5
        bias = None if self.bias is None else self.bias * self.mask
        if torch.compiler.is_compiling():  # the kernel's eps would be a constant, and each mask compiled anew
            centred = (filled - mean).to(weight.dtype)
            normal = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps * self.share) * weight
            return normal if bias is None else normal + bias
        return F.layer_norm(filled, self.normalized_shape, weight, bias, self.eps * self.share)


def set_mask(norm: Any, mask: Tensor) -> None:
    """Turns a LayerNorm into a `MaskedLayerNorm` with the given mask (C,), in [0, 1]."""
    share = float(mask.double().mean())
    mask = mask.to(norm.weight.dtype)
    if not isinstance(norm, MaskedLayerNorm):
        norm.plain_class = type(norm)
        norm.__class__ = MaskedLayerNorm
        norm.register_buffer("mask", mask, persistent=False)
    norm.mask = mask
    norm.share = share or 1 / mask.numel()  # with no kept channel the output is zero, so any positive share will do


def clear_mask(norm: Any) -> None:
    """Gives a `MaskedLayerNorm` its original class back; other norms are unchanged."""
    if isinstance(norm, MaskedLayerNorm):
        norm.__class__ = norm.plain_class
        del norm.mask, norm.share, norm.plain_class
