"""How a pretrained ViT becomes a tracker's backbone."""

import math
from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

# What pretrained ViTs have besides what a tracker runs: class token, classifier, and the decoder of MAE's training.
NOT_TAKEN = ("cls_token", "head.", "fc_norm.", "mask_token", "decoder_")


def resize_position_embedding(embedding: Tensor, grid: int) -> Tensor:
    """A ViT's position embedding for another number of patches (OSTrack's `finetune_track`).

    Args:
        embedding: (1, n * n, C), or (1, 1 + n * n, C) with a class token's in front, which is left out.
        grid: patches per side.

    Returns:
        (1, grid * grid, C).
    """
    side = math.isqrt(embedding.shape[1])
    patches = embedding[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(patches, (grid, grid), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


def tracking_weights(vit: Mapping[str, Tensor], grids: Mapping[str, int]) -> dict[str, Tensor]:
    """The weights of a pretrained plain ViT (timm's and MAE's names) under the names of OSTrack's backbone.

    Args:
        vit: its state dict.
        grids: patches per side for each of the tracker's position embeddings, by name.
    """
    weights = {name: w for name, w in vit.items() if name != "pos_embed" and not name.startswith(NOT_TAKEN)}
    if "pos_embed" in vit:
        weights |= {name: resize_position_embedding(vit["pos_embed"], grid) for name, grid in grids.items()}
    return weights
