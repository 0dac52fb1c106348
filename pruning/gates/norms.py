"""Norms over masked units. No change of weights can express this effect of a mask.

`set_mask` changes the class of an existing norm and `clear_mask` gives it back, so that names, parameters and forward
code of the network stay as they are. A LayerNorm over the last dimension becomes a `MaskedLayerNorm`, which is fast.
Any other norm runs its own forward inside `KeptStatistics`.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.gates.kept_statistics import KeptStatistics


class MaskedLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels that `mask` keeps; equals the LayerNorm of the compacted network.

    The input must be zero where the mask is zero. The forward fills these channels with the mean of the kept ones, so
    that the native kernel computes the statistics of the kept channels. A channel with a mask between 0 and 1 counts in
    part, so that the output changes without a jump while the channel leaves.

    Attributes:
        mask: (C,), 1 for a kept channel.
        share: fraction of the channels that are kept, i.e. the mean of the mask.
        closed: (C,), 1 - mask.
        scale: (C,), factor of the weight.
    """

    mask: Tensor
    closed: Tensor
    scale: Tensor
    share: float
    plain_class: Any  # the class of the norm without its mask

    def forward(self, input: Tensor) -> Tensor:
        """Normalizes the input (..., C); the output (..., C) is zero where the mask is zero."""
        if self.share == 1 and not torch.compiler.is_compiling():  # compiled, it would be one graph more
            return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
        mean = input.sum(-1, keepdim=True) / (self.share * input.shape[-1])
        filled = torch.addcmul(input, self.closed.to(input.dtype), mean)
        # The kernel's variance is `share` times the variance of the kept channels. Scaled eps and weight correct that.
        weight = self.scale.to(input.dtype) if self.weight is None else self.weight * self.scale
        bias = None if self.bias is None else self.bias * self.mask
        if torch.compiler.is_compiling():  # the kernel's eps would be a constant, and each mask compiled anew
            centred = (filled - mean).to(weight.dtype)
            normal = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps * self.share) * weight
            return normal if bias is None else normal + bias
        return F.layer_norm(filled, self.normalized_shape, weight, bias, self.eps * self.share)


class UnitMask(NamedTuple):
    """Mask of units, and what follows from it. All norms over the same units share it; see `MaskedLayerNorm`."""

    mask: Tensor
    closed: Tensor
    scale: Tensor
    share: float

    @classmethod
    def of(cls, mask: Tensor) -> "UnitMask":
        """Returns what follows from a mask (units,) in [0, 1]."""
        # With no kept unit the output is zero, so any positive share will do.
        share = float(mask.double().mean()) or 1 / mask.numel()
        return cls(mask, 1 - mask, mask * share**0.5, share)


def set_mask(norm: Any, units: UnitMask) -> None:
    """Makes a norm compute its statistics over the kept units only.

    Args:
        norm: a norm over exactly the units; see `Group.norms`. If it is no LayerNorm over the last dimension, its own
            weights must be masked as well.
        units: mask of the units.
    """
    if not hasattr(norm, "plain_class"):
        norm.plain_class = type(norm)
        norm.__class__ = MaskedLayerNorm if is_plain_layer_norm(norm) else _masked_class(type(norm))
    weight = next(norm.parameters(recurse=False), None)
    if weight is not None and weight.dtype != units.mask.dtype:
        units = UnitMask.of(units.mask.to(weight.dtype))
    norm.share = units.share
    tensors = {"mask": units.mask}
    if isinstance(norm, MaskedLayerNorm):
        tensors |= {"closed": units.closed, "scale": units.scale}
    for name, tensor in tensors.items():
        norm.register_buffer(name, tensor, persistent=False)


def clear_mask(norm: Any) -> None:
    """Gives a norm with a mask its original class back; other norms are unchanged."""
    if hasattr(norm, "plain_class"):
        for name in ("closed", "scale") if isinstance(norm, MaskedLayerNorm) else ():
            delattr(norm, name)
        norm.__class__ = norm.plain_class
        del norm.mask, norm.share, norm.plain_class


def is_plain_layer_norm(norm: nn.Module) -> bool:
    """Returns whether the norm computes the same as `nn.LayerNorm`, over the last dimension."""
    return isinstance(norm, MaskedLayerNorm) or _computes_layer_norm(type(norm))


@cache
def _computes_layer_norm(kind: type[nn.Module]) -> bool:
    """Returns whether instances of a class compute the same as `nn.LayerNorm`; a LayerNorm of maps does not."""
    if not issubclass(kind, nn.LayerNorm) or kind.forward is nn.LayerNorm.forward:
        return issubclass(kind, nn.LayerNorm)
    try:
        probe: Any = kind(3)
        vectors = torch.tensor([[1.0, -2.0, 5.0]])
        with torch.no_grad():
            expected = F.layer_norm(vectors, (3,), probe.weight, probe.bias, probe.eps)
            return torch.equal(probe(vectors), expected)
    except Exception:  # it needs other arguments, or inputs of other shapes: any error is possible
        return False


@cache
def _masked_class(kind: type[nn.Module]) -> type[nn.Module]:
    """Returns the subclass of a norm that computes its statistics over the kept units."""

    class Masked(kind):  # type: ignore[misc, valid-type]
        mask: Tensor
        share: float

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            with KeptStatistics(self.mask, self.share):
                return super().forward(*args, **kwargs)

    Masked.__name__ = Masked.__qualname__ = f"Masked{kind.__name__}"
    return Masked
