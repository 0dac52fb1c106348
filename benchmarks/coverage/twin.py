"""The masked twin of a cut network, made of both networks' parameters alone and not of what a library says it has cut.

Every entry of the uncut network has a value of its own, so the values of the cut network tell which entries it keeps.
The twin is the uncut network with zeros at all other entries. Its normalizations take the statistics over the kept
channels, as those of the cut network do.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

ROUNDING = 1e-12  # relative; the entries of an uncut tensor differ by more


class NoTwinError(Exception):
    """The cut network is no selection of entries of the uncut one, so no masked network is defined."""


@torch.no_grad()
def twin_of(dense: nn.Module, cut: nn.Module, factors: Mapping[str, Iterable[float]]) -> "Twin":
    """Returns the masked twin of a cut network.

    Args:
        dense: the uncut network, whose entries are distinct.
        cut: the cut network.
        factors: by names of parameters, factors by which the cut is known to have multiplied some of the entries.

    Raises:
        NoTwinError: a parameter has another name, or its entries are no block of entries of the uncut parameter.
    """
    twin, kept = copy.deepcopy(dense), {}
    parameters = dict(twin.named_parameters())
    for name, parameter in cut.named_parameters():
        if name not in parameters:
            raise NoTwinError(f"the cut network has a parameter of its own: {name}")
        keeps = kept_entries(parameters[name], parameter, name, (1.0, *factors.get(name, ())))
        if not all(bool(k.all()) for k in keeps):
            for dim, k in enumerate(keeps):
                parameters[name].movedim(dim, 0)[~k] = 0
            kept[parameters[name]] = keeps
    names = {name for name, _ in cut.named_parameters()}
    for name, parameter in parameters.items():
        if name not in names:  # of a layer that has vanished
            parameter.zero_()
    return Twin(twin, kept)


def kept_entries(dense: Tensor, cut: Tensor, name: str, factors: Iterable[float] = (1.0,)) -> list[Tensor]:
    """Returns which entries along each dimension a cut tensor keeps, as booleans.

    Args:
        dense, cut: the uncut and the cut tensor.
        name: for errors.
        factors: each cut entry is an entry of the uncut tensor times one of these.

    Raises:
        NoTwinError: the cut tensor is no block of entries of the uncut one in their order.
    """
    if dense.dim() != cut.dim():
        raise NoTwinError(f"{name} has another number of dimensions")
    if not cut.numel():
        return [
            torch.zeros(n, dtype=torch.bool) if m == 0 else torch.ones(n, dtype=torch.bool)
            for n, m in zip(dense.shape, cut.shape, strict=True)
        ]
    factors = torch.tensor(list(factors), dtype=dense.dtype)
    # Lines through the first cut entry give the kept entries of each dimension; then all entries are compared.
    corner = dense.flatten() / cut.flatten()[0]
    found = sum((corner * f - 1).abs() < ROUNDING for f in factors).nonzero()
    if len(found) != 1:
        raise NoTwinError(f"the first entry of {name} is no entry of the uncut tensor")
    start = torch.unravel_index(found[0, 0], dense.shape)
    keeps, block = [], dense
    for dim in range(dense.dim()):
        elsewhere = [d for d in range(dense.dim()) if d != dim]
        line, wanted = dense.movedim(elsewhere, list(range(len(elsewhere)))), cut.movedim(dim, -1)
        for d in elsewhere:
            line, wanted = line[start[d]], wanted[0]
        index = _find(line, wanted, factors, name)
        if not bool((index[1:] > index[:-1]).all()):
            raise NoTwinError(f"the entries of {name} have another order than in the uncut tensor")
        keeps.append(torch.zeros(len(line), dtype=torch.bool).index_fill_(0, index, True))
        block = block.index_select(dim, index)
    if not bool(torch.stack([(cut / block / f - 1).abs() for f in factors]).amin(0).max() < ROUNDING):
        raise NoTwinError(f"the entries of {name} are no block of the uncut tensor")
    return keeps


def _find(line: Tensor, wanted: Tensor, factors: Tensor, name: str) -> Tensor:
    """Returns the index in `line` of each wanted value, which is one of its values times one of the factors."""
    near = ((line[None, :, None] * factors / wanted[:, None, None] - 1).abs() < ROUNDING).any(-1)
    if not bool((near.sum(1) == 1).all()):
        raise NoTwinError(f"{name} has entries that the uncut tensor lacks")
    return near.int().argmax(1)


class Twin:
    """Masked network.

    Args:
        network: uncut network with zeros at the entries that the cut network lacks.
        kept: by parameter, which entries along each dimension are kept.
    """

    def __init__(self, network: nn.Module, kept: dict[Tensor, list[Tensor]]):
        self.network, self.kept = network, kept

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Any:
        """Returns the output for images (B, 3, H, W)."""
        mode = _KeptStatistics(self.kept)
        handles = [h for m in self.network.modules() for h in (_enter(m, mode.modules), _leave(m, mode.modules))]
        try:
            with mode:
                return self.network(images)
        finally:
            for handle in handles:
                handle.remove()


class _KeptStatistics(TorchFunctionMode):
    """Lets layer, group and RMS norms of cut weights, and means over channels, count the kept channels alone."""

    def __init__(self, kept: dict[Tensor, list[Tensor]]):
        super().__init__()
        self.kept = kept
        self.modules: list[nn.Module] = []  # that run, the outermost first

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("layer_norm", "group_norm", "rms_norm"):
            keys = ("input", "shape", "weight", "bias", "eps")
            given = dict(zip([k for k in keys if k != "bias" or name != "rms_norm"], args, strict=False))
            given |= {"shape" if k in ("normalized_shape", "num_groups") else k: v for k, v in kwargs.items()}
            weight = given.get("weight")
            if isinstance(weight, Tensor) and weight in self.kept:
                return _normalize(name, given, self.kept[weight][0].to(weight))
        if name in ("mean", "var") and self.modules and (mask := self._mask_of_mean(args, kwargs)) is not None:
            return _statistic(name, args[0], mask, kwargs)
        return func(*args, **kwargs)

    def _mask_of_mean(self, args: tuple, kwargs: Mapping[str, Any]) -> Tensor | None:
        """Returns the kept channels if a module averages over the channels that its own cut weight has."""
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        dim = dim[0] if isinstance(dim, tuple | list) and len(dim) == 1 else dim
        for weight in self.modules[-1].parameters(recurse=False):
            kept = [k for k in self.kept.get(weight, []) if not bool(k.all())]
            if isinstance(dim, int) and len(kept) == 1 and len(kept[0]) == args[0].shape[dim]:
                shape = [1] * args[0].dim()
                shape[dim] = -1
                return kept[0].to(args[0]).view(shape)
        return None


def _statistic(name: str, x: Tensor, mask: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Returns the mean or the variance of the kept channels; the mask has one dimension that is not 1."""
    dim, keep = next(d for d, n in enumerate(mask.shape) if n > 1), options.get("keepdim", False)
    mean = (x * mask).sum(dim, keepdim=True) / mask.sum()
    if name == "var":
        less = options.get("correction", int(options.get("unbiased", True)))
        mean = ((x - mean).square() * mask).sum(dim, keepdim=True) / (mask.sum() - less)
    return mean if keep else mean.squeeze(dim)


def _enter(module: nn.Module, running: list[nn.Module]) -> RemovableHandle:
    return module.register_forward_pre_hook(lambda m, _: running.append(m))


def _leave(module: nn.Module, running: list[nn.Module]) -> RemovableHandle:
    def leave(*_: Any) -> None:
        running.pop()

    return module.register_forward_hook(leave)


def _normalize(name: str, given: Mapping[str, Any], kept: Tensor) -> Tensor:
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    eps = given.get("eps")
    if name == "group_norm":
        kept, shape = kept.view(given["shape"], -1), x.shape
        x = x.reshape(x.shape[0], *kept.shape, -1)
        count = kept.sum(1).clamp_min(1)[:, None, None] * x.shape[-1]
        mask = kept[..., None]
        mean = (x * mask).sum((2, 3), keepdim=True) / count
        variance = ((x - mean).square() * mask).sum((2, 3), keepdim=True) / count
        x = ((x - mean) / (variance + (1e-5 if eps is None else eps)).sqrt()).view(shape)
        each = (-1, *[1] * (x.dim() - 2))
        return x * weight.view(each) + (0 if bias is None else bias.view(each))
    count = kept.sum().clamp_min(1)
    if name == "rms_norm":
        square = (x.square() * kept).sum(-1, keepdim=True) / count
        return x / (square + (torch.finfo(x.dtype).eps if eps is None else eps)).sqrt() * weight
    mean = (x * kept).sum(-1, keepdim=True) / count
    variance = ((x - mean).square() * kept).sum(-1, keepdim=True) / count
    return (x - mean) / (variance + (1e-5 if eps is None else eps)).sqrt() * weight + (0 if bias is None else bias)
