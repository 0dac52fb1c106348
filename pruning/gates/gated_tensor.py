"""A parameter or buffer that carries gates: its product with their factors, and the gradients of the factors."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn


class GatedTensor:
    """Parameter or buffer that carries gates or masks, which act as factors along some of its dimensions.

    Args:
        network: the network that holds the tensor.
        path: its name in the network.
        factor_ids: by dimension, the index of the factor of each entry (entries,); see `Gates._all_factors`.

    Attributes:
        ungated: the tensor without factors, while it is folded; otherwise None.
    """

    def __init__(self, network: nn.Module, path: str, factor_ids: dict[int, Tensor]):
        module, _, self.name = path.rpartition(".")
        self.path, self.module = path, network.get_submodule(module)
        self.dims, self.factor_ids = tuple(factor_ids), tuple(factor_ids.values())
        self.ungated: Tensor | None = None
        self._gated: Tensor | None = None  # memory of the gated tensor, kept between training steps
        self._views = [[-1 if d == dim else 1 for d in range(self.tensor.dim())] for dim in self.dims]

    @property
    def tensor(self) -> Tensor:
        """The parameter or buffer itself."""
        return getattr(self.module, self.name)

    def factors(self, entries: Sequence[Tensor]) -> list[Tensor]:
        """Returns factors, one (entries,) for each of `dims`, shaped to broadcast over the tensor."""
        return [by_entry.view(view) for view, by_entry in zip(self._views, entries, strict=True)]

    def fold(self, factors: Sequence[Tensor]) -> None:
        """Multiplies the tensor by `factors`. New memory is taken only if none of the same layout is left."""
        parameter = self.tensor
        ungated, gated = parameter.data, self._gated
        if gated is None or _layout(gated) != _layout(ungated):
            with torch.inference_mode(False):  # the memory may serve a training later
                gated = torch.empty_like(ungated)
            self.ungated, self._gated, parameter.data = ungated, gated, gated
        else:
            self.ungated, parameter.data = ungated, gated
            # Unlike `data`, the detached tensor has the version of the parameter. Caches that compare addresses and
            # versions of weights then notice that the values change.
            gated = parameter.detach()
        torch.mul(ungated, factors[0], out=gated)
        for factor in factors[1:]:
            gated.mul_(factor)

    def unfold(self, factors: Sequence[Tensor], factor_gradients: bool) -> list[Tensor]:
        """Converts the gradient of the gated tensor into that of the ungated tensor, in place.

        Returns:
            For each of `dims` the gradients of the factors, (entries,); [] without `factor_gradients`.
        """
        gradient, ungated = self.tensor.grad, self.ungated
        if gradient is None or ungated is None:
            return [torch.zeros_like(f.flatten()) for f in factors] if factor_gradients else []
        sums = _sums(gradient * ungated, self.dims, factors) if factor_gradients else []
        for factor in factors:
            gradient.mul_(factor)
        return sums

    def restore(self, keeps_memory: bool = False) -> None:
        """Puts the ungated tensor back.

        Args:
            keeps_memory: whether the next `fold` writes into the memory of the gated tensor.
        """
        if self.ungated is not None:
            self.tensor.data, self.ungated = self.ungated, None
        if not keeps_memory:
            self._gated = None

    def keep_gated(self) -> None:
        """Makes the gated tensor the tensor itself, permanently."""
        self.ungated = self._gated = None


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _sums(product: Tensor, dims: Sequence[int], factors: Sequence[Tensor]) -> list[Tensor]:
    """Returns the gradient of each factor of a tensor.

    Args:
        product: gradient of the gated tensor times the ungated tensor.
        dims: gated dimensions.
        factors: factors along each of `dims`, shaped to broadcast over the tensor.

    Returns:
        For each of `dims` the sum of `product`, times the other factors, over all other dimensions: (entries,). Only
        products of matrices and vectors are computed, in the order of the memory, and no copies of the tensor.
    """
    if product.dim() == 1:
        return [product]
    if not product.numel():
        return [f.flatten() * 0 for f in factors]
    order = sorted(range(product.dim()), key=lambda d: -product.stride(d))
    product = product.permute(order)
    weights: list[Tensor | None] = [None] * product.dim()
    for dim, factor in zip(dims, factors, strict=True):
        weights[order.index(dim)] = factor.flatten().to(product.dtype)
    sums = []
    for at in map(order.index, dims):
        rest, before, after = product, _outer(product, weights, 0, at), _outer(product, weights, at + 1, len(order))
        if at:
            rest = rest.reshape(prod(product.shape[:at]), -1)
            rest = rest.sum(0) if before is None else before @ rest
        rest = rest.reshape(product.shape[at], -1)
        sums.append(rest.sum(1) if after is None else rest @ after)
    return sums


def _outer(product: Tensor, weights: Sequence[Tensor | None], first: int, end: int) -> Tensor | None:
    """Returns the flattened outer product of the weights of the dims in [first, end); None if all of them are None."""
    if all(w is None for w in weights[first:end]):
        return None
    outer = product.new_ones(1)
    for w, size in zip(weights[first:end], product.shape[first:end], strict=True):
        outer = torch.outer(outer, product.new_ones(1).expand(size) if w is None else w).flatten()
    return outer
