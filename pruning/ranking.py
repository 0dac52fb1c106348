"""Ranking: which units compete with each other, and how scores of different groups are made comparable."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pruning.groups import Group

NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda scores: scores,
    "mean": lambda scores: scores / scores.mean().clamp_min(1e-12),
    "max": lambda scores: scores / scores.amax().clamp_min(1e-12),
    "zscore": lambda scores: (scores - scores.mean()) / scores.std(correction=0).clamp_min(1e-12),
}
SCOPES = ("global", "kind", "layer")


def check_ranking(scope: Mapping[str, str], normalise: str) -> None:
    """Raises ValueError if one of the two does not exist."""
    for kind, rule in scope.items():
        if rule not in SCOPES:
            raise ValueError(f"pruning.scope of '{kind}' is '{rule}'; choose one of {SCOPES}")
    if normalise not in NORMALISATIONS:
        raise ValueError(f"pruning.normalise={normalise} is not known; choose one of {tuple(NORMALISATIONS)}")


def quantiles(
    scores: Mapping[str, Tensor], groups: Sequence[Group], scope: Mapping[str, str], normalise: str = "none"
) -> dict[str, Tensor]:
    """Every unit's place in its pool, from 0 (cut first) to 1, so that different pools can be merged.

    Args:
        scores: by group name, each (size,).
        groups: the groups.
        scope: pool by kind, with "default" for kinds not listed: "global" (one pool for all such groups), "kind" (one a
            kind) or "layer" (each group by itself: every layer keeps the same share).
        normalise: what a group's scores are divided by before they compete with another's: "none"; "mean" (keeps real
            differences, and no group is emptied for its size); "max"; or "zscore" (also takes their mean away: every
            group loses about the same share).

    Raises:
        ValueError: a scope or normalisation that does not exist, or a scope for a kind that no group has.
    """
    check_ranking(scope, normalise)
    kinds = {g.kind for g in groups}
    unknown = sorted(set(scope) - kinds - {"default"})
    if unknown:
        raise ValueError(f"scope names {unknown}, but the network has groups of the kinds {sorted(kinds)}")
    pools: dict[str, list[Group]] = {}
    for group in groups:
        rule = scope.get(group.kind, scope.get("default", "global"))
        pool = {"global": "", "kind": group.kind, "layer": f"{group.kind}/{group.name}"}[rule]
        pools.setdefault(pool, []).append(group)
    places = {}
    for pool in pools.values():
        flat = torch.cat([NORMALISATIONS[normalise](scores[g.name]) for g in pool])
        place = torch.empty_like(flat)
        place[flat.argsort(stable=True)] = torch.arange(len(flat), device=flat.device, dtype=flat.dtype)
        place = (place + 0.5) / len(flat)
        places |= {g.name: p for g, p in zip(pool, place.split([g.size for g in pool]), strict=True)}
    return places
