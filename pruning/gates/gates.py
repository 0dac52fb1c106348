"""Gates: one learnable scale per unit, multiplied into the weights around every training step.

    gates.fold()              # parameters hold gated weights: forward, loss, backward
    gates.unfold()            # parameters hold the ungated weights again; .grad and gates.values.grad are exact

Networks contain no pruning code and keep the names and types of their modules and parameters. The cost per step is a
few passes over the weights, independent of the batch size. Evaluation uses `with gates.folded(): ...`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pruning.gates.gated_tensor import GatedTensor
from pruning.gates.norms import UnitMask, clear_mask, is_plain_layer_norm, set_mask
from pruning.groups import Group, Slice, slices_of_norm
from pruning.groups.checks import check_some_groups
from pruning.plan import Plan


class Gates:
    """Gates of all units of some groups of a network.

    Gated slices of a unit are multiplied by `values * mask`, masked slices by `mask`.

    Attributes:
        network: the network; its tensors are changed in place.
        groups: the groups, in the order of `values`.
        sizes: number of units of each group.
        values: learnable scales (units,), group after group; 1 at the start.
        mask: (units,) in the same order: 1 for an open gate, 0 for a closed one, between 0 and 1 while it closes.
    """

    def __init__(self, network: nn.Module, groups: Sequence[Group]):
        self.network, self.groups = network, check_some_groups(network, groups)
        self.sizes = [g.size for g in self.groups]
        first = next(network.parameters())
        device, dtype = first.device, torch.promote_types(first.dtype, torch.float32)
        self.values = nn.Parameter(torch.ones(sum(self.sizes), device=device, dtype=dtype))
        self.mask = torch.ones_like(self.values.data)
        self._tensors = self._find_tensors(device)
        self._factor_ids = torch.cat([e for t in self._tensors for e in t.factor_ids] or [self.mask.long()[:0]])
        self._factors: list[list[Tensor]] | None = None  # while folded
        self._masks: list[tuple[Plan, Tensor]] = []
        encoders = any(isinstance(m, nn.TransformerEncoderLayer) for m in network.modules())
        self._norms = self._find_norms(device)
        self._avoids_fast_path = encoders and bool(self._norms)
        self._fast_path = True

    def _find_tensors(self, device: torch.device) -> list[GatedTensor]:
        """Returns the gated and masked tensors, with the index of the factor of each entry; see `_all_factors`."""
        index: dict[str, dict[int, Tensor]] = defaultdict(dict)
        start = 0
        for group in self.groups:
            units = torch.arange(group.size, device=device)
            for s in (s for s in group.slices if s.gated or s.masked or self._is_in_norm(group, s)):
                dims = index[s.path]
                if s.dim not in dims:
                    entries = GatedTensor(self.network, s.path, {}).tensor.shape[s.dim]
                    dims[s.dim] = torch.full((entries,), 2 * len(self.values), device=device)
                factors = units + start if s.gated else units + start + len(self.values)
                dims[s.dim][s.positions(units)] = factors.repeat_interleave(s.inner)
            start += group.size
        return [GatedTensor(self.network, path, factor_ids) for path, factor_ids in index.items()]

    def _find_norms(self, device: torch.device) -> list[tuple[list[nn.Module], Tensor]]:
        """Returns the norms over units, with the index of the mask of each entry; the last one is of no unit.

        Norms of equal indices are together, since their mask is the same.
        """
        norms: dict[str, Tensor] = {}
        start = 0
        for group in self.groups:
            units = torch.arange(group.size, device=device)
            for path in group.norms:
                slices = slices_of_norm(group, path) or [Slice("", 0)]
                if path not in norms:
                    tensor = GatedTensor(self.network, slices[0].path, {}).tensor if slices[0].path else units
                    entries = tensor.shape[slices[0].dim]
                    norms[path] = torch.full((entries,), len(self.values), device=device)
                for s in slices:
                    norms[path][s.positions(units)] = (units + start).repeat_interleave(s.inner)
            start += group.size
        together: dict[tuple[int, ...], tuple[list[nn.Module], Tensor]] = {}
        for path, ids in norms.items():
            together.setdefault(tuple(ids.tolist()), ([], ids))[0].append(self.network.get_submodule(path))
        return list(together.values())

    def _is_in_norm(self, group: Group, s: Slice) -> bool:
        """Returns whether a slice is of a norm over the units that needs masked weights; see `norms.set_mask`."""
        norms = [n for n in group.norms if s.path.startswith(f"{n}.")]
        return any(not is_plain_layer_norm(self.network.get_submodule(n)) for n in norms)

    def parameters(self) -> list[Tensor]:
        """Returns the parameters of the network that carry gates."""
        return [t.tensor for t in self._tensors if any((ids < len(self.values)).any() for ids in t.factor_ids)]

    @property
    def gradients(self) -> Tensor:
        """Gradients of `values`, (units,), after `unfold`."""
        if self.values.grad is None:
            raise RuntimeError("the gates have no gradients; call unfold() after the backward pass")
        return self.values.grad

    @property
    def is_folded(self) -> bool:
        """Whether the parameters hold gated weights at the moment."""
        return self._factors is not None

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Splits a vector (units,) in the order of `values` into one vector (size,) per group name."""
        return {g.name: part for g, part in zip(self.groups, flat.split(self.sizes), strict=True)}

    def close(self, plan: Plan, before: Plan | None = None, progress: float = 1.0) -> None:
        """Closes the gates of all units that `plan` does not keep and opens all others.

        Args:
            plan: the units to keep.
            before: the plan so far, if the mask is to change gradually.
            progress: position of the mask between `before` (0) and `plan` (1).

        Raises:
            RuntimeError: the gates are folded, so the weights contain the present mask.
        """
        if self.is_folded:
            raise RuntimeError("the mask cannot change while the gates are folded; call unfold() first")
        self.mask.copy_(self._mask_of(plan))
        if before is not None and progress < 1:
            self.mask.lerp_(self._mask_of(before), 1 - progress)

    def _mask_of(self, plan: Plan) -> Tensor:
        """Returns the mask (units,) of a plan; the last two masks are cached, as a gradual change needs both often."""
        for cached, mask in self._masks:
            if cached is plan:
                return mask
        mask = torch.zeros_like(self.mask)
        for group, part in zip(self.groups, mask.split(self.sizes), strict=True):
            part[torch.tensor(plan.units(group), dtype=torch.long, device=part.device)] = 1
        self._masks = [*self._masks[-1:], (plan, mask)]
        return mask

    @torch.no_grad()
    def fold(self) -> None:
        """Multiplies the gates into the weights until `unfold` or `restore`.

        Raises:
            RuntimeError: the gates are folded already, so the weights would be scaled twice.
        """
        if self.is_folded:
            raise RuntimeError("the gates are already folded; call unfold() first")
        self._factors = self._all_factors()
        for t, factors in zip(self._tensors, self._factors, strict=True):
            t.fold(factors)
        if self._avoids_fast_path:  # which reads the weights of norms without a call of their forward
            self._fast_path = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        masks = torch.cat([self.mask, self.mask.new_ones(1)])
        for norms, ids in self._norms:
            units = UnitMask.of(masks[ids.to(masks.device)])
            for norm in norms:
                set_mask(norm, units)

    @torch.no_grad()
    def unfold(self, gate_gradients: bool = True) -> None:
        """Restores the ungated weights and converts the gradients of gated weights.

        Afterwards the gradients of the parameters are those of the ungated weights, and the gradients of the gates are
        added to `values.grad`. A parameter without a gradient contributes nothing.

        Args:
            gate_gradients: whether gradients of gates are computed, which costs a pass over the weights.

        Raises:
            RuntimeError: the gates are not folded.
        """
        if self._factors is None:
            raise RuntimeError("the gates are not folded; call fold() first")
        gradient, pairs = None, zip(self._tensors, self._factors, strict=True)
        terms = [term for t, factors in pairs for term in t.unfold(factors, gate_gradients)]
        if gate_gradients:
            flat = torch.cat(terms or [self.mask[:0]])
            gradient = torch.zeros(2 * len(self.values) + 1, dtype=self.values.dtype, device=self.values.device)
            gradient = gradient.index_add_(0, self._factor_ids, flat.to(gradient.dtype))[: len(self.values)]
        self._restore(keeps_memory=True)
        # The mask is left out on purpose: the gradient of a closed gate is the effect of opening it.
        if gradient is not None:
            self.values.grad = gradient if self.values.grad is None else self.values.grad + gradient

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Folds the gates for the length of a `with` block, if they are not folded; gradients stay as they are."""
        if self.is_folded:
            yield
            return
        self.fold()
        try:
            yield
        finally:
            self.restore()

    def to(self, device: str | torch.device) -> "Gates":
        """Moves the gates to the device of the network."""
        self.values.data, self.mask, self._masks = self.values.data.to(device), self.mask.to(device), []
        self._factor_ids = self._factor_ids.to(device)
        return self

    def ungated_weights(self) -> dict[str, Tensor]:
        """Returns the ungated tensors by name while the gates are folded, otherwise an empty dictionary."""
        return {t.path: t.ungated for t in self._tensors if t.ungated is not None}

    @torch.no_grad()
    def fold_permanently(self) -> None:
        """Multiplies the gates into the weights permanently, then opens all gates and sets them to 1."""
        self.fold()
        for t in self._tensors:
            t.keep_gated()
        self.restore()
        self.values.data.fill_(1)
        self.values.grad = None
        self.mask.fill_(1)

    def restore(self) -> None:
        """Restores the ungated weights and the plain norms; gradients stay as they are."""
        self._restore()

    def _restore(self, keeps_memory: bool = False) -> None:
        for t in self._tensors:
            t.restore(keeps_memory)
        if self._avoids_fast_path and self.is_folded:
            torch.backends.mha.set_fastpath_enabled(self._fast_path)
        self._factors = None
        for norm in (norm for norms, _ in self._norms for norm in norms):
            clear_mask(norm)

    def _all_factors(self) -> list[list[Tensor]]:
        """Returns the factors of every tensor, one per gated dim, shaped to broadcast over the tensor."""
        # Factor ids count the gates first (for gated slices), then the masks (for masked ones); the last factor is 1.
        factors = torch.cat([self.values.detach() * self.mask, self.mask, self.mask.new_ones(1)])[self._factor_ids]
        parts = iter(factors.split([len(ids) for t in self._tensors for ids in t.factor_ids]))
        return [t.factors([next(parts) for _ in t.dims]) for t in self._tensors]
