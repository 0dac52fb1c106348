"""Ranking: turns scores of units into ranks that are comparable across groups."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pruning.errors import PruningError
from pruning.groups import Group

NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda scores: scores,
    "mean": lambda scores: scores / scores.mean().clamp_min(1e-12),
    "max": lambda scores: scores / scores.amax().clamp_min(1e-12),
    "zscore": lambda scores: (scores - scores.mean()) / scores.std(correction=0).clamp_min(1e-12),
}
SCOPES = ("global", "kind", "layer")


def check_ranking(scope: Mapping[str, str], normalise: str) -> None:
    """Raises PruningError unless every scope in `scope` and the normalization `normalise` exist."""
    for kind, rule in scope.items():
        if rule not in SCOPES:
            raise PruningError(f"pruning.scope of '{kind}' is '{rule}'; choose one of {SCOPES}")
    if normalise not in NORMALISATIONS:
        raise PruningError(f"pruning.normalise={normalise} is not known; choose one of {tuple(NORMALISATIONS)}")


def quantile_ranks(
    scores: Mapping[str, Tensor], groups: Sequence[Group], scope: Mapping[str, str], normalise: str = "none"
) -> dict[str, Tensor]:
    """Returns the quantile of every unit's score in its pool, in (0, 1); the lowest quantile is cut first.

    Units compete with each other within a pool. Quantiles of different pools can be merged into one ranking.

    Args:
        scores: scores by group name, each (size,).
        groups: the groups.
        scope: pool by kind, with "default" for kinds not listed: "global" (one pool for all such groups), "kind" (one
            pool per kind) or "layer" (one pool per group, so that every layer keeps the same share).
        normalise: normalization of the scores of a group before they compete with those of other groups: "none";
            "mean" (divides by the mean: keeps differences within a group, and no group is emptied because of its
            size); "max" (divides by the maximum); or "zscore" (subtracts the mean and divides by the standard
            deviation: every group loses about the same share).

    Returns:
        The quantiles by group name, each (size,).

    Raises:
        PruningError: a scope or normalization does not exist, or a scope is given for a kind that no group has.
    """
    check_ranking(scope, normalise)
    kinds = {g.kind for g in groups}
    unknown = sorted(set(scope) - kinds - {"default"})
    if unknown:
        raise PruningError(f"pruning.scope lists {unknown}, but the network has groups of the kinds {sorted(kinds)}")
    pools: dict[str, list[Group]] = {}
    for group in groups:
        rule = scope.get(group.kind, scope.get("default", "global"))
        pool = {"global": "", "kind": group.kind, "layer": f"{group.kind}/{group.name}"}[rule]
        pools.setdefault(pool, []).append(group)
    ranks = {}
    for pool in pools.values():
        flat = torch.cat([NORMALISATIONS[normalise](scores[g.name]) for g in pool])
        positions = torch.empty_like(flat)
        positions[flat.argsort(stable=True)] = torch.arange(len(flat), device=flat.device, dtype=flat.dtype)
        quantiles = (positions + 0.5) / len(flat)
        ranks |= {g.name: q for g, q in zip(pool, quantiles.split([g.size for g in pool]), strict=True)}
    return ranks
