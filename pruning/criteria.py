"""Criteria: how the units of a group are ranked. Higher means more worth keeping."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from pruning.gates import Gates
from pruning.groups import Group, entries_first


class Criterion(Protocol):
    """Scores every unit; `learns_gates` says whether the gates must be trained for it."""

    learns_gates: bool

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Scores by group name, each (size,), non-negative."""
        ...


class Slim:
    """|gate|: the ranking of ViT-Slim and of the ICASSP 2023 paper, whose l1 penalty drives useless gates to 0."""

    learns_gates = True

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Absolute gate values by group."""
        return gates.split(gates.values.detach().abs())


class Magnitude:
    """l2 norm of everything that a unit cuts, in all tensors of its group, divided by the group's mean.

    Raw norms rank group sizes instead of units and empty whole layers.
    """

    learns_gates = False

    def __call__(self, gates: Gates) -> dict[str, Tensor]:
        """Norms by group. Buffers (batch statistics) do not count."""
        norms = {group.name: _norms(gates, group) for group in gates.groups}
        return {name: norm / norm.mean().clamp_min(1e-12) for name, norm in norms.items()}


@torch.no_grad()
def _norms(gates: Gates, group: Group) -> Tensor:
    units = torch.arange(group.size)
    parameters = dict(gates.network.named_parameters())
    squares = torch.zeros(group.size, device=gates.values.device)
    for s in (s for s in group.slices if s.path in parameters):
        entries = entries_first(parameters[s.path].float().square(), s.dim).sum(1)
        for positions in s.positions(units):
            squares += entries[positions.to(entries.device)].view(group.size, s.inner).sum(1)
    return squares.sqrt()


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
