"""A small OSTrack of official proportions: patches of 16, heads of 64 dims, elimination on."""

import torch

from trackers.base import Online, Recipe
from trackers.crops import CropSpec
from trackers.ostrack import OSTrack
from trackers.ostrack.elimination import Elimination

RECIPE = Recipe(
    lr=1e-3, rates={"backbone.": 0.1}, weight_decay=0, decay_vectors=False, clip=1, schedule=lambda progress: 1
)
LOSS = {"focal": 1.0, "giou": 2.0, "l1": 5.0, "cells": "best"}
SIZES = {"embed_dim": 128, "depth": 3, "num_heads": 2, "mlp_ratio": 2.0}
ELIMINATION = Elimination(blocks=[0, 2], keep=[0.7, 0.5], start_epoch=2, warmup_epochs=2)


def small_ostrack(elimination: Elimination | None = ELIMINATION, seed: int = 0) -> OSTrack:
    """Returns a network of random weights in evaluation mode, with biases, norms and statistics away from 0 and 1."""
    torch.manual_seed(seed)
    online = Online(min_size=4.0, size_smoothing=0.0)
    template, search = CropSpec(32, 2.0), CropSpec(64, 4.0)
    tracker = OSTrack(template, search, "vit_base_patch16_224", SIZES, elimination, [8, 4], LOSS, RECIPE, online)
    for tensor in [*tracker.network.parameters(), *tracker.network.buffers()]:
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.data += 0.3 * torch.rand_like(tensor)
    return tracker.eval()
