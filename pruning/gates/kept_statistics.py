"""Statistics over the kept units: a mode in which torch's norms, means and variances leave masked units out."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pruning.errors import PruningError


class KeptStatistics(TorchFunctionMode):
    """Mode in which statistics over the units count each unit by its mask.

    Inside a `with` block, `F.layer_norm`, `F.rms_norm`, `F.group_norm` with one group, and `mean`, `var` and `std` over
    a dimension of the units weigh the unit's entries by the mask. A unit with a mask of zero counts as removed,
    whatever its entries are. All results change without a jump while a mask moves from 1 to 0. Other functions are
    unchanged.

    Args:
        mask: (units,), in [0, 1].
        share: mean of the mask; positive.
    """

    def __init__(self, mask: Tensor, share: float):
        super().__init__()
        self.mask, self.share = mask, share

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the masked version of `func` if there is one, and `func` itself otherwise."""
        name = _REPLACED.get(func)
        return (func if name is None else getattr(self, name))(*args, **(kwargs or {}))

    def layer_norm(
        self,
        input: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *_: Any,
    ) -> Tensor:
        """Does what `F.layer_norm` does, over the kept units; the weight and the bias must be masked."""
        if tuple(normalized_shape) != tuple(self.mask.shape):
            return F.layer_norm(input, normalized_shape, weight, bias, eps)
        filled, scale = self._filled(input, [-1]), self._scale(weight, input)
        return F.layer_norm(filled, normalized_shape, scale, bias, eps * self.share)

    def group_norm(
        self,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *_: Any,
    ) -> Tensor:
        """Does what `F.group_norm` does with one group, over the kept units; the weight and bias must be masked."""
        if num_groups != 1 or input.shape[1] != len(self.mask):
            return F.group_norm(input, num_groups, weight, bias, eps)
        filled = self._filled(input, list(range(1, input.dim())), 1)
        return F.group_norm(filled, 1, self._scale(weight, input), bias, eps * self.share)

    def rms_norm(
        self, input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
    ) -> Tensor:
        """Does what `F.rms_norm` does, over the kept units."""
        if tuple(normalized_shape) != tuple(self.mask.shape):
            return F.rms_norm(input, normalized_shape, weight, eps)
        eps = torch.finfo(torch.promote_types(input.dtype, torch.float32)).eps if eps is None else eps
        scale = (input.new_ones(len(self.mask)) if weight is None else weight) * self.share**0.5
        return F.rms_norm(input * self.mask.to(input.dtype), normalized_shape, scale, eps * self.share)

    def mean(self, *args: Any, **kwargs: Any) -> Tensor:
        """Does what `torch.mean` does; if a dimension of the units is averaged, over the kept units."""
        x, dims, options = _reduction(args, kwargs, ("keepdim",))
        if (mask := self._mask_along(x, dims)) is None:
            return torch.mean(*args, **kwargs)
        return torch.mean(x * mask, dims, **options) / self.share

    def var(self, *args: Any, **kwargs: Any) -> Tensor:
        """Does what `torch.var` does; if a dimension of the units is reduced, over the kept units."""
        return self.var_mean(*args, **kwargs)[0]

    def std(self, *args: Any, **kwargs: Any) -> Tensor:
        """Does what `torch.std` does; if a dimension of the units is reduced, over the kept units."""
        return self.var_mean(*args, **kwargs)[0].sqrt()

    def var_mean(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Does what `torch.var_mean` does; if a dimension of the units is reduced, over the kept units."""
        x, dims, options = _reduction(args, kwargs, ("unbiased", "keepdim"))
        if (mask := self._mask_along(x, dims)) is None:
            return torch.var_mean(*args, **kwargs)
        keepdim, correction = options.get("keepdim", False), options.get("correction")
        correction = float(options.get("unbiased", True)) if correction is None else correction
        mean = torch.mean(x * mask, dims, keepdim=True) / self.share
        count = self.share
        for dim in dims:
            count *= x.shape[dim]
        variance = ((x - mean).square() * mask).sum(dims, keepdim=keepdim) / (
            count - correction if count > correction else 1
        )
        return variance, mean if keepdim else mean.squeeze(dims)

    def std_mean(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Does what `torch.std_mean` does; if a dimension of the units is reduced, over the kept units."""
        variance, mean = self.var_mean(*args, **kwargs)
        return variance.sqrt(), mean

    def _filled(self, x: Tensor, dims: list[int], unit_dim: int = -1) -> Tensor:
        """Returns x with masked units replaced by the mean of the kept ones over `dims`."""
        mask = _view_along(self.mask.to(x.dtype), x, unit_dim)
        kept = x * mask
        return torch.addcmul(kept, 1 - mask, kept.mean(dims, keepdim=True) / self.share)

    def _scale(self, weight: Tensor | None, x: Tensor) -> Tensor:
        """Returns the weight that corrects a variance over all units, of which masked ones are at the mean."""
        return (self.mask.to(x.dtype) if weight is None else weight) * self.share**0.5

    def _mask_along(self, x: Tensor, dims: tuple[int, ...]) -> Tensor | None:
        """Returns the mask, shaped to broadcast along the dimension of the units among `dims`, None without one."""
        over_units = [dim for dim in dims if x.shape[dim] == len(self.mask)]
        if len(over_units) > 1:
            raise PruningError(
                f"a mean over the dims {over_units} of a tensor of shape {tuple(x.shape)} does not tell which of them "
                f"has the {len(self.mask)} units that the norm is over; give inputs of another size for the trial"
            )
        return _view_along(self.mask.to(x.dtype), x, over_units[0]) if over_units else None


def _reduction(args: tuple, kwargs: dict, names: tuple[str, ...]) -> tuple[Tensor, tuple[int, ...], dict[str, Any]]:
    """Returns the input of a reduction, its dims counted from 0, and its other options by name.

    Args:
        args, kwargs: arguments of the call.
        names: names of the positional arguments behind the dims.
    """
    options = dict(kwargs)
    x = args[0] if args else options.pop("input")
    rest = list(args[1:])
    has_dim = rest and not isinstance(rest[0], bool)
    dim = rest.pop(0) if has_dim else options.pop("dim", options.pop("axis", None))
    options |= dict(zip(names, rest, strict=False))
    dims = range(x.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
    return x, tuple(d % x.dim() for d in dims), options


def _view_along(vector: Tensor, x: Tensor, dim: int) -> Tensor:
    """Returns a vector, shaped to broadcast along a dimension of x."""
    return vector.view([-1 if d == dim % x.dim() else 1 for d in range(x.dim())])


_REPLACED = {
    F.layer_norm: "layer_norm",
    torch.layer_norm: "layer_norm",
    F.group_norm: "group_norm",
    torch.group_norm: "group_norm",
    F.rms_norm: "rms_norm",
    torch.rms_norm: "rms_norm",
    torch.mean: "mean",
    Tensor.mean: "mean",
    torch.var: "var",
    Tensor.var: "var",
    torch.std: "std",
    Tensor.std: "std",
    torch.var_mean: "var_mean",
    torch.std_mean: "std_mean",
}
