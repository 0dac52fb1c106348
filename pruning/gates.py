"""Gates: one learnable scale a unit, multiplied into the weights themselves around every step.

    gates.fold()              # parameters hold gated weights: forward, loss, backward
    gates.unfold()            # parameters hold their own weights again; .grad and gates.values.grad are exact

The networks contain no pruning code, keep their names and types, and are saved as they are. A pass over the weights is
all that it costs, whatever the batch. In between, `with gates.folded(): ...` is the same for evaluation.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pruning.groups import Group, check_groups, entries_first
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
        self._kept: dict[str, Tensor] | None = None
        self._masks: list[tuple[Plan, Tensor]] = []

    def _index(self, device: torch.device) -> dict[str, list[tuple[int, Tensor]]]:
        """For every gated or masked tensor and dim, which of `_factors` multiplies each entry."""
        index: dict[tuple[str, int], Tensor] = {}
        start = 0
        for group in self.groups:
            units = torch.arange(group.size, device=device)
            for s in (s for s in group.slices if s.gated or s.masked):
                key = (s.path, s.dim)
                if key not in index:
                    entries = self._tensor(s.path).shape[s.dim]
                    index[key] = torch.full((entries,), 2 * len(self.values), device=device)
                factors = units + start if s.gated else units + start + len(self.values)
                index[key][s.positions(units)] = factors.repeat_interleave(s.inner)
            start += group.size
        by_tensor = defaultdict(list)
        for (path, dim), entries in index.items():
            by_tensor[path].append((dim, entries))
        return dict(by_tensor)

    def parameters(self) -> list[nn.Parameter]:
        """Those of the network that carry gates."""
        return [
            self._tensor(path)
            for path, dims in self._tensors.items()
            if any((entries < len(self.values)).any() for _, entries in dims)
        ]

    @property
    def is_folded(self) -> bool:
        """Whether the parameters hold gated weights now."""
        return self._kept is not None

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
        factors, self._kept = self._factors(), {}
        for path, dims in self._tensors.items():
            p = self._tensor(path)
            self._kept[path] = p.data
            p.data = (p.data * _outer(factors, dims, p.dim())).to(p.dtype)
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
        factors, gradient = self._factors(), torch.zeros_like(self.values)
        for path, dims in self._tensors.items():
            p, weight = self._tensor(path), self._kept[path]
            if p.grad is not None:
                for i, (dim, entries) in enumerate(dims if gate_gradients else ()):
                    others = dims[:i] + dims[i + 1 :]
                    share = entries_first(p.grad * weight * _outer(factors, others, p.dim()), dim).sum(1)
                    gated = entries < len(self.values)
                    gradient.index_add_(0, entries[gated], share[gated].to(gradient.dtype))
                p.grad *= _outer(factors, dims, p.dim())
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
        self._tensors = {p: [(dim, entries.to(device)) for dim, entries in dims] for p, dims in self._tensors.items()}
        return self

    def own_weights(self) -> dict[str, Tensor]:
        """The ungated tensors that are set aside while the gates are folded, by name; else empty."""
        return dict(self._kept or {})

    @torch.no_grad()
    def bake(self) -> None:
        """Multiplies the gates into the weights for good and resets them to open ones."""
        self.fold()
        for path in self._tensors:
            self._kept[path] = self._tensor(path).data
        self.restore()
        self.values.data.fill_(1)
        self.values.grad = None
        self.mask.fill_(1)

    def restore(self) -> None:
        """Puts the weights that were set aside back, and plain norms; gradients are left alone."""
        for path, weight in self._kept.items():
            self._tensor(path).data = weight
        self._kept = None
        for group in self.groups:
            for norm in group.norms:
                clear_mask(self.network.get_submodule(norm))

    def _tensor(self, path: str) -> Tensor:
        """A parameter or buffer."""
        module, _, name = path.rpartition(".")
        return getattr(self.network.get_submodule(module), name)

    def _factors(self) -> Tensor:
        """What entries are multiplied by: gates (gated slices), then masks (masked ones), then a 1 (all others)."""
        return torch.cat([self.values.detach() * self.mask, self.mask, self.mask.new_ones(1)])


def _outer(factors: Tensor, dims: list[tuple[int, Tensor]], ndim: int) -> Tensor | float:
    """The product of a tensor's vectors of factors, shaped to broadcast over it."""
    product: Tensor | float = 1.0
    for dim, entries in dims:
        product = product * factors[entries].view([-1 if d == dim else 1 for d in range(ndim)])
    return product
