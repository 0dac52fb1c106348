"""Candidate elimination (OSTrack, section 3.2): blocks drop search tokens that look like background."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trackers.errors import TrackerError


@dataclass(frozen=True)
class Elimination:
    """Settings of candidate elimination: the blocks that eliminate search tokens, and the shares that they keep.

    Attributes:
        blocks: indices of the blocks that eliminate tokens, between their attention and their MLP.
        keep: share of the remaining search tokens that each of these blocks keeps.
        start_epoch: first epoch of the training in which tokens are eliminated; the first epoch of all is 1.
        warmup_epochs: number of epochs in which the share falls along half a cosine from 1 to `keep[0]`.
    """

    blocks: Sequence[int]
    keep: Sequence[float]
    start_epoch: int
    warmup_epochs: int

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.keep) or not all(0 < k <= 1 for k in self.keep):
            raise TrackerError(
                f"tracker.elimination needs a share in (0, 1] for each block, not keep={list(self.keep)} for "
                f"blocks={list(self.blocks)}; e.g. tracker.elimination.blocks=[3,6,9] "
                "tracker.elimination.keep=[0.7,0.7,0.7]"
            )

    def training_share(self, epoch: int) -> float:
        """Returns the share that every block keeps in an epoch; the first epoch is 1 (`adjust_keep_rate`)."""
        final = self.keep[0]
        passed = (epoch - self.start_epoch) / max(self.warmup_epochs, 1)
        if passed < 0:
            return 1.0
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(passed, 1.0)))


def scoring_token(grid: int) -> int:
    """Returns the index of the template token whose attention ranks candidates: the centre of grid x grid tokens."""
    middle = (grid - 1) // 2
    return middle * grid + middle


def best_candidates(scores: Tensor, share: float) -> Tensor:
    """Returns the indices (B, ceil(share * n)) of the candidates that stay, in their order.

    Among equal scores the first candidates stay. All scores are equal if attention was pruned away. Masked networks,
    cut networks and exported programs must then keep the same candidates on every device.

    Args:
        scores: attention that each candidate receives, (B, n).
        share: share of candidates that stay.
    """
    candidates = scores.shape[1]
    count = math.ceil(share * candidates)
    # A stable sort would do as well, but ONNX has none. Here the order in which `sort` leaves equal scores is not read.
    lowest = scores.sort(dim=1, descending=True).values[:, count - 1 : count]
    above, equal = ~(scores <= lowest), scores == lowest
    stays = above | (equal & (equal.cumsum(1) <= count - above.sum(1, keepdim=True)))
    indices = torch.where(stays, torch.arange(candidates, device=scores.device), candidates)
    return indices.sort(dim=1).values[:, :count]


def select_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """Returns the tokens (B, n, C) at the positions `indices` (B, n) in tokens (B, N, C)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[2]))


def restore_tokens(tokens: Tensor, indices: Tensor, count: int) -> Tensor:
    """Inverts `select_tokens`.

    Args:
        tokens: selected tokens (B, n, C).
        indices: their positions, (B, n).
        count: number of tokens before the selection.

    Returns:
        Tokens (B, count, C), zero at positions that were not selected.
    """
    filled = tokens.new_zeros(tokens.shape[0], count, tokens.shape[2])
    return filled.scatter(1, indices[..., None].expand(-1, -1, tokens.shape[2]), tokens)
