"""Candidate elimination (OSTrack, section 3.2): search tokens that look like background leave early."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Elimination:
    """Where search tokens leave, and how many.

    Attributes:
        blocks: indices of the blocks whose attention decides; tokens leave between their attention and their MLP.
        keep: share of the remaining search tokens that each of these blocks keeps.
        start_epoch, warmup_epochs: while training, nothing leaves before epoch `start_epoch` (the first is 1); from
            there the share falls along half a cosine, for `warmup_epochs`, to that of the first block.
    """

    blocks: Sequence[int]
    keep: Sequence[float]
    start_epoch: int
    warmup_epochs: int

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.keep) or not all(0 < k <= 1 for k in self.keep):
            raise ValueError(
                f"elimination needs a share in (0, 1] for each block, not keep={list(self.keep)} for "
                f"blocks={list(self.blocks)}; e.g. blocks=[3,6,9] keep=[0.7,0.7,0.7]"
            )

    def while_training(self, epoch: int) -> float:
        """The share that every block keeps in an epoch, of which the first is 1 (`adjust_keep_rate`)."""
        final = self.keep[0]
        passed = (epoch - self.start_epoch) / max(self.warmup_epochs, 1)
        if passed < 0:
            return 1.0
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(passed, 1.0)))


def scoring_token(grid: int) -> int:
    """The template token whose attention ranks the candidates: the one at the centre of a `grid` x `grid` template."""
    middle = (grid - 1) // 2
    return middle * grid + middle


def best_candidates(scores: Tensor, share: float) -> Tensor:
    """The candidates that stay, in their old order.

    Args:
        scores: attention that each candidate gets, (B, n).
        share: of candidates that stay; rounded up.

    Returns:
        Indices, (B, ceil(share * n)).
    """
    count = math.ceil(share * scores.shape[1])
    # Not `topk`: where attention was pruned away all scores are equal, and a sort leaves the first ones in front, in
    # the masked network as in the compacted one, here as in exported graphs.
    return scores.sort(dim=1, descending=True).indices[:, :count].sort(dim=1).values


def take(tokens: Tensor, indices: Tensor) -> Tensor:
    """Tokens (B, N, C) at `indices` (B, n): (B, n, C)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[2]))


def put_back(tokens: Tensor, indices: Tensor, count: int) -> Tensor:
    """The inverse of `take`, to `count` tokens: (B, count, C), zero where nothing was taken."""
    filled = torch.zeros(len(tokens), count, tokens.shape[2], dtype=tokens.dtype, device=tokens.device)
    return filled.scatter(1, indices[..., None].expand(-1, -1, tokens.shape[2]), tokens)
