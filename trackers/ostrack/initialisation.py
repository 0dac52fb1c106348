"""Conversion of the weights of a pretrained ViT to weights of OSTrack's backbone."""

import math
from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

# Parts of pretrained ViTs that a tracker does not run: class token, classifier, and the decoder of MAE's training.
UNUSED = ("cls_token", "head.", "fc_norm.", "mask_token", "decoder_")


def resize_position_embedding(embedding: Tensor, grid: int) -> Tensor:
    """Resizes a ViT's position embedding to (1, grid * grid, C) (OSTrack's `finetune_track`).

    Args:
        embedding: (1, n * n, C), or (1, 1 + n * n, C) with a class token's entry first, which is left out.
        grid: patches per side.
    """
    side = math.isqrt(embedding.shape[1])
    patches = embedding[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(patches, (grid, grid), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


def tracking_weights(vit: Mapping[str, Tensor], grids: Mapping[str, int]) -> dict[str, Tensor]:
    """Returns the weights of a pretrained plain ViT under the names of OSTrack's backbone.

    Args:
        vit: state dict of the ViT, with timm's or MAE's names.
        grids: patches per side of each of the tracker's position embeddings, by name.
    """
    weights = {name: w for name, w in vit.items() if name != "pos_embed" and not name.startswith(UNUSED)}
    if "pos_embed" in vit:
        weights |= {name: resize_position_embedding(vit["pos_embed"], grid) for name, grid in grids.items()}
    return weights
