"""Gates: one learnable scale a unit, multiplied into the weights themselves around every step.

    gates.fold()              # parameters hold gated weights: forward, loss, backward
    gates.unfold()            # parameters hold their own weights again; .grad and gates.values.grad are exact

The networks contain no pruning code, keep their names and types, and are saved as they are. Some passes over the
weights are all that it costs, whatever the batch. In between, `with gates.folded(): ...` is the same for evaluation.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.groups import Group, check_groups
from pruning.norms import clear_mask, set_mask
from pruning.plan import Plan


class Gates:
    """The gates of all `groups` of `network`, in one flat vector.

    Attributes:
        values: learnable scales (units of all groups, one after the other), 1 at the start.
        mask: 1 = open, 0 = closed, in between = on the way, same order. A unit's gated slices are multiplied by
            `values * mask`, its masked slices by `mask`.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group]):
        self.network, self.groups = network, check_groups(network, groups)
        self.sizes = [g.size for g in self.groups]
        first = next(network.parameters())
        device, dtype = first.device, torch.promote_types(first.dtype, torch.float32)
        self.values = nn.Parameter(torch.ones(sum(self.sizes), device=device, dtype=dtype))
        self.mask = torch.ones_like(self.values.data)
        self._tensors = self._index(device)
        self._entries = torch.cat([e for tensor in self._tensors for e in tensor.entries] or [self.mask.long()[:0]])
        self._own: list[Tensor] | None = None
        self._factors: list[list[Tensor]] = []
        self._masks: list[tuple[Plan, Tensor]] = []

    def _index(self, device: torch.device) -> list["_Gated"]:
        """For every gated or masked tensor and dim, which of `_all_factors` multiplies each entry."""
        index: dict[str, dict[int, Tensor]] = defaultdict(dict)
        start = 0
        for group in self.groups:
            units = torch.arange(group.size, device=device)
            for s in (s for s in group.slices if s.gated or s.masked):
                dims = index[s.path]
                if s.dim not in dims:
                    entries = _Gated.at(self.network, s.path).tensor.shape[s.dim]
                    dims[s.dim] = torch.full((entries,), 2 * len(self.values), device=device)
                factors = units + start if s.gated else units + start + len(self.values)
                dims[s.dim][s.positions(units)] = factors.repeat_interleave(s.inner)
            start += group.size
        return [_Gated.at(self.network, path, tuple(dims), tuple(dims.values())) for path, dims in index.items()]

    def parameters(self) -> list[nn.Parameter]:
        """Those of the network that carry gates."""
        return [t.tensor for t in self._tensors if any((entries < len(self.values)).any() for entries in t.entries)]

    @property
    def is_folded(self) -> bool:
        """Whether the parameters hold gated weights now."""
        return self._own is not None

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat vector in the order of `values`, by group name."""
        return {g.name: part for g, part in zip(self.groups, flat.split(self.sizes), strict=True)}

    def close(self, plan: Plan, before: Plan | None = None, progress: float = 1.0) -> None:
        """Closes every unit that `plan` does not keep and opens all others.

        Args:
            plan: the units that stay.
            before: those that stayed so far.
            progress: how much of the way from `before` to `plan` is gone, in [0, 1].

        Raises:
            RuntimeError: the gates are folded; the weights would be restored from another mask.
        """
        if self.is_folded:
            raise RuntimeError("the mask cannot change while the gates are folded; call unfold() first")
        self.mask.copy_(self._mask_of(plan))
        if before is not None and progress < 1:
            self.mask.lerp_(self._mask_of(before), 1 - progress)

    def _mask_of(self, plan: Plan) -> Tensor:
        """Remembers the last two plans: on the way from one to the other the mask is set at every step."""
        for known, mask in self._masks:
            if known is plan:
                return mask
        mask = torch.zeros_like(self.mask)
        for group, part in zip(self.groups, mask.split(self.sizes), strict=True):
            part[torch.tensor(plan.units(group), dtype=torch.long, device=part.device)] = 1
        self._masks = [*self._masks[-1:], (plan, mask)]
        return mask

    @torch.no_grad()
    def fold(self) -> None:
        """Multiplies the gates into the weights. Folding twice is an error, as weights would be scaled twice."""
        if self.is_folded:
            raise RuntimeError("the gates are already folded; call unfold() first")
        self._own = [t.tensor.data for t in self._tensors]
        self._factors = self._all_factors()
        gated = _times(self._own, self._factors)
        for t, own, weight in zip(self._tensors, self._own, gated, strict=True):
            t.tensor.data = weight.to(own.dtype)
        for group, mask in zip(self.groups, self.mask.split(self.sizes), strict=True):
            for norm in group.norms:
                set_mask(self.network.get_submodule(norm), mask)

    @torch.no_grad()
    def unfold(self, gate_gradients: bool = True) -> None:
        """Gives the weights back, and turns gradients of folded weights into those of weights and of gates.

        `values.grad` is added to, like any gradient; where a parameter has none, nothing is added.

        Args:
            gate_gradients: whether those of gates are wanted: they cost a pass over the weights.
        """
        if not self.is_folded:
            raise RuntimeError("the gates are not folded; call fold() first")
        factors, gradients = self._factors, [t.tensor.grad for t in self._tensors]
        learned = [i for i, gradient in enumerate(gradients) if gradient is not None]
        if gate_gradients:
            shares = [[torch.zeros_like(f) for f in of] for of in factors]
            pairs = [gradients[i] for i in learned], [self._own[i] for i in learned]
            for i, product in zip(learned, torch._foreach_mul(*pairs) if learned else (), strict=True):
                shares[i] = _shares(product, self._tensors[i].dims, factors[i])
            flat = torch.cat([share.flatten() for of in shares for share in of] or [self.mask[:0]])
            gradient = torch.zeros(2 * len(self.values) + 1, dtype=self.values.dtype, device=self.values.device)
            gradient = gradient.index_add_(0, self._entries, flat.to(gradient.dtype))[: len(self.values)]
        for i in learned:
            for factor in factors[i]:
                gradients[i].mul_(factor)
        self.restore()
        # A gate that is closed has no say in the loss through its value; its gradient tells what opening it would do.
        if gate_gradients:
            self.values.grad = gradient if self.values.grad is None else self.values.grad + gradient

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Folds for the length of the block, unless the gates are folded already; gradients are left alone."""
        if self.is_folded:
            yield
            return
        self.fold()
        try:
            yield
        finally:
            self.restore()

    def to(self, device: str | torch.device) -> "Gates":
        """Moves the gates to where the network now is."""
        self.values.data, self.mask, self._masks = self.values.data.to(device), self.mask.to(device), []
        self._entries = self._entries.to(device)
        return self

    def own_weights(self) -> dict[str, Tensor]:
        """The ungated tensors that are set aside while the gates are folded, by name; else empty."""
        return {} if self._own is None else {t.path: own for t, own in zip(self._tensors, self._own, strict=True)}

    @torch.no_grad()
    def bake(self) -> None:
        """Multiplies the gates into the weights for good and resets them to open ones."""
        self.fold()
        self._own = [t.tensor.data for t in self._tensors]
        self.restore()
        self.values.data.fill_(1)
        self.values.grad = None
        self.mask.fill_(1)

    def restore(self) -> None:
        """Puts the weights that were set aside back, and plain norms; gradients are left alone."""
        for t, own in zip(self._tensors, self._own, strict=True):
            t.tensor.data = own
        self._own, self._factors = None, []
        for group in self.groups:
            for norm in group.norms:
                clear_mask(self.network.get_submodule(norm))

    def _all_factors(self) -> list[list[Tensor]]:
        """What every tensor is multiplied by, dim by dim, shaped to broadcast over it."""
        # Gates (of gated slices), then masks (of masked ones), then a 1 (for all other entries).
        factors = torch.cat([self.values.detach() * self.mask, self.mask, self.mask.new_ones(1)])[self._entries]
        parts = iter(factors.split([len(entries) for t in self._tensors for entries in t.entries]))
        return [
            [next(parts).view([-1 if d == dim else 1 for d in range(t.tensor.dim())]) for dim in t.dims]
            for t in self._tensors
        ]


@dataclass(frozen=True)
class _Gated:
    """A tensor that carries gates or masks: where it is, and along `dims` which factor multiplies each entry."""

    path: str
    module: nn.Module
    name: str
    dims: tuple[int, ...] = ()
    entries: tuple[Tensor, ...] = ()

    @classmethod
    def at(cls, network: nn.Module, path: str, *rest: tuple) -> "_Gated":
        module, _, name = path.rpartition(".")
        return cls(path, network.get_submodule(module), name, *rest)

    @property
    def tensor(self) -> Tensor:
        """The parameter or buffer that is there now."""
        return getattr(self.module, self.name)


def _times(tensors: list[Tensor], factors: list[list[Tensor]]) -> list[Tensor]:
    """Every tensor times all its factors; many small tensors at once, as the calls would cost more than the work."""
    products = list(torch._foreach_mul(tensors, [of[0] for of in factors])) if tensors else []
    for i, of in enumerate(factors):
        for factor in of[1:]:
            products[i] = products[i].mul_(factor)
    return products


def _shares(product: Tensor, dims: tuple[int, ...], factors: list[Tensor]) -> list[Tensor]:
    """Along each of `dims` the sum over all others times their factors: products with vectors, no copies."""
    rest, order = [d for d in range(product.dim()) if d not in dims], sorted(dims)
    product = product.sum(rest) if rest else product
    shares = []
    for dim in dims:
        share = product
        for other in sorted({*dims} - {dim}, reverse=True):  # from the last on, so that the axes before stay in place
            factor = factors[dims.index(other)].flatten().to(share.dtype)
            share = torch.tensordot(share, factor, ([order.index(other)], [0]))
        shares.append(share)
    return shares
