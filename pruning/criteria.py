"""Criteria: how the units of a group are ranked. Higher means more worth keeping."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pruning.gates import Gates
from pruning.groups import Group, entries_first


class Criterion(Protocol):
    """Scores every unit, and says what a training does for it; `learns_gates`: whether the gates must be trained."""

    learns_gates: bool

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Scores by group name, each (size,), non-negative."""
        ...

    def penalise(self, gates: Gates, weights: Tensor) -> None:
        """Adds the gradient of the l1 penalty on what is scored; `weights` are those of all units, like `gates.values`.

        The gates are not folded, and the gradients of the loss are there already.
        """
        ...


class Slim:
    """|gate|: the ranking of ViT-Slim and of the ICASSP 2023 paper, whose l1 penalty drives useless gates to 0."""

    learns_gates = True

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Absolute gate values by group."""
        return gates.split(gates.values.detach().abs())

    def penalise(self, gates: Gates, weights: Tensor) -> None:
        """Penalises |gate|."""
        gates.values.grad += weights * gates.values.detach().sign()


class Magnitude:
    """l2 norm of everything that a unit cuts, in all tensors of its group, divided by the group's mean.

    Raw norms rank group sizes instead of units and empty whole layers.
    """

    learns_gates = False

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Norms by group. Buffers (batch statistics) do not count."""
        return {group.name: _relative_norms(gates, group) for group in gates.groups}

    def penalise(self, gates: Gates, weights: Tensor) -> None:
        """Penalises nothing: weight norms are taken as the loss leaves them."""


class NetworkSlimming:
    """|scale| of a unit's batch norm, which an l1 penalty drives to 0 (Liu et al., 2017).

    Scales are compared as they are, across layers: they multiply channels that the norm has made equally large. Where
    several norms write into one residual stream the largest scale counts, as a channel can go only if none of them
    needs it. Scales that are not trained are ranked, but not penalised.

    Groups without a batch norm that could be trained (constant norms, transformers) are ranked as by `Magnitude`, and
    nothing is learned for them. Such ranks do not compare with scales: a scope by kind keeps the two apart.
    """

    learns_gates = False

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Largest scales by group."""
        scores = {}
        for group in gates.groups:
            largest = [scale.detach().float().abs()[entries].amax(1) for scale, entries in _scales(gates, group)]
            scores[group.name] = torch.stack(largest).amax(0) if largest else _relative_norms(gates, group)
        return scores

    def penalise(self, gates: Gates, weights: Tensor) -> None:
        """Penalises |scale| of every batch norm that has a gradient."""
        for group, weight in zip(gates.groups, weights.split(gates.sizes), strict=True):
            for scale, entries in _scales(gates, group):
                if scale.grad is not None:
                    scale.grad[entries] += weight[:, None] * scale.detach()[entries].sign()


def _scales(gates: Gates, group: Group) -> list[tuple[Tensor, Tensor]]:
    """Scales of the batch norms over a group's units, each with the entries (size, n) that belong to every unit."""
    units, found = torch.arange(group.size, device=gates.values.device), []
    for s in group.slices:
        path, _, name = s.path.rpartition(".")
        norm = gates.network.get_submodule(path)
        if isinstance(norm, _BatchNorm) and name == "weight":
            entries = s.positions(units).view(len(s.offsets), group.size, s.inner)
            found.append((norm.weight, entries.transpose(0, 1).flatten(1)))
    return found


@torch.no_grad()
def _relative_norms(gates: Gates, group: Group) -> Tensor:
    """See `Magnitude`."""
    units = torch.arange(group.size)
    parameters = dict(gates.network.named_parameters())
    squares = torch.zeros(group.size, device=gates.values.device)
    for s in (s for s in group.slices if s.path in parameters):
        entries = entries_first(parameters[s.path].float().square(), s.dim).sum(1)
        for positions in s.positions(units):
            squares += entries[positions.to(entries.device)].view(group.size, s.inner).sum(1)
    norms = squares.sqrt()
    return norms / norms.mean().clamp_min(1e-12)


def quantiles(scores: Mapping[str, Tensor], groups: Sequence[Group], scope: Mapping[str, str]) -> dict[str, Tensor]:
    """Every unit's place in its pool, from 0 (cut first) to 1, so that different pools can be merged.

    Args:
        scores: by group name, each (size,).
        groups: the groups.
        scope: pool by kind, with "default" for kinds not listed: "global" (one pool for all such groups), "kind" (one a
            kind) or "layer" (each group by itself: every layer keeps the same share).

    Raises:
        ValueError: a scope that does not exist, or one for a kind that no group has.
    """
    kinds = {g.kind for g in groups}
    unknown = sorted(set(scope) - kinds - {"default"})
    if unknown:
        raise ValueError(f"scope names {unknown}, but the network has groups of the kinds {sorted(kinds)}")
    pools: dict[str, list[Group]] = {}
    for group in groups:
        rule = scope.get(group.kind, scope.get("default", "global"))
        if rule not in ("global", "kind", "layer"):
            raise ValueError(f"scope of '{group.kind}' is '{rule}'; choose global, kind or layer")
        pool = {"global": "", "kind": group.kind, "layer": f"{group.kind}/{group.name}"}[rule]
        pools.setdefault(pool, []).append(group)
    places = {}
    for pool in pools.values():
        flat = torch.cat([scores[g.name] for g in pool])
        place = torch.empty_like(flat)
        place[flat.argsort(stable=True)] = torch.arange(len(flat), device=flat.device, dtype=flat.dtype)
        place = (place + 0.5) / len(flat)
        places |= {g.name: p for g, p in zip(pool, place.split([g.size for g in pool]), strict=True)}
    return places
