"""Rotary position embeddings of one-stream ViTs, as tables for `trackers.layers.attention`."""

import copy
from typing import Any

import torch
from torch import Tensor

from trackers.errors import TrackerError

LARGEST = 2**26  # entries of a table; the table of a file's tracker is made before its weights are compared


def rotary_table(rope: Any, grid: int) -> Tensor:
    """Returns cosines and sines of the angles of a grid's tokens, row by row, (1, grid * grid, 2 * pairs).

    The table is on the CPU also if the network is built on the meta device, as no file stores it. It has no random
    changes of the coordinates, which some ViTs were pretrained with.

    Args:
        rope: timm's `RotaryEmbeddingCat` or `RotaryEmbeddingDinoV3`.
        grid: tokens per side.

    Raises:
        TrackerError: the table would need hundreds of megabytes.
    """
    if grid**2 * rope.dim > LARGEST:
        raise TrackerError(
            f"rotary positions of {grid} x {grid} tokens in heads of {rope.dim} dims need too much memory; choose "
            "smaller crops or more heads, e.g. tracker.search.size=256"
        )
    with torch.device("cpu"):
        rope = copy.deepcopy(rope).to_empty(device="cpu").eval()
        rope.init_non_persistent_buffers()
        rope.update_feat_shape((grid, grid))
        sines, cosines = rope.get_embed().chunk(2, -1)  # each angle stands there twice, for both dims of its pair
    pairs = slice(sines.shape[1] // 2) if rope.rotate_half else slice(None, None, 2)
    return torch.cat([cosines[:, pairs], sines[:, pairs]], 1)[None]


def identity_table(tokens: int, entries: int) -> Tensor:
    """Returns the table (1, tokens, entries) of tokens that do not rotate: cosines of 1, sines of 0."""
    with torch.device("cpu"):
        return torch.cat([torch.ones(1, tokens, entries // 2), torch.zeros(1, tokens, entries // 2)], 2)
