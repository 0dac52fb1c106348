"""ViTs of timm that can read template and search region as one stream of tokens, and why others cannot."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import Attention as PlainAttention
from timm.layers import GluMlp, Mlp, PatchEmbed, RmsNorm, RotaryEmbeddingCat, RotaryEmbeddingDinoV3, SwiGLU
from timm.layers.attention import AttentionRope
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from trackers.errors import TrackerError
from trackers.layers.attention import Attention
from trackers.ostrack.stem import ConvStem

MODULES = ("vision_transformer", "deit", "eva")  # of timm.models
WORKS = "vit_base_patch16_224"


@dataclass(frozen=True)
class ViTForm:
    """Facts about a ViT of timm that a state dict with its weights does not tell.

    Attributes:
        tokens: names and numbers of the tokens in front of the patches, in their order.
        embeds_tokens: whether the position embedding has entries for these tokens, in front of those of the patches.
        has_positions: whether the ViT has a learned position embedding.
        heads: number of attention heads.
        rotates_halves: whether rotary attention pairs dim i of a head with dim i + width / 2 instead of its neighbour.
    """

    tokens: Mapping[str, int]
    embeds_tokens: bool
    has_positions: bool
    heads: int
    rotates_halves: bool


def build_vit(name: str, search_size: int, stem_hidden: int | None, **changes: Any) -> tuple[Any, ViTForm]:
    """Returns a ViT of timm with fresh weights, and its form.

    A `VisionTransformer` has attention of `trackers.layers` and neither class token nor position embedding. An `Eva` is
    as timm builds it, except for the stem.

    Args:
        name: name of the ViT, with or without the name of pretrained weights.
        search_size: side of the search crop in pixels.
        stem_hidden: hidden channels of a `ConvStem` in place of the patch embedding; None for the ViT's own.
        changes: arguments of timm's constructor.

    Raises:
        TrackerError: timm has no such ViT, or the ViT has a part for which the one-stream form is not defined or not
            supported.
    """
    sizes = {key: value for key, value in changes.items() if key != "drop_path_rate"}
    plain = _plain_vit(name, sizes)
    _check_parts(plain, name)
    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", "img_size": search_size, "dynamic_img_size": False}
    options |= changes
    if type(plain) is VisionTransformer:
        options |= {"class_token": False, "reg_tokens": 0, "pos_embed": "none", "attn_layer": Attention}
        if stem_hidden is not None:
            options["embed_layer"] = partial(ConvStem, hidden=stem_hidden)
    vit = timm.create_model(name, **options)
    if type(plain) is Eva and stem_hidden is not None:
        vit.patch_embed = ConvStem(plain.num_features, stem_hidden)
    tokens = {"cls_token": plain.cls_token, "reg_token": plain.reg_token}
    first = plain.blocks[0].attn
    form = ViTForm(
        {key: token.shape[1] for key, token in tokens.items() if token is not None},
        plain.pos_embed is not None and not plain.no_embed_class,
        plain.pos_embed is not None,
        first.num_heads,
        getattr(first, "rotate_half", False),
    )
    return vit, form


def _plain_vit(name: str, sizes: Mapping[str, Any]) -> Any:
    """Returns the ViT as timm builds it, on the meta device."""
    architecture, _, _ = name.partition(".")  # the rest names pretrained weights
    known = [n for module in MODULES for n in timm.list_models(module=module)]
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, cutoff=0)
        if timm.is_model(architecture):
            module = timm.model_entrypoint(architecture).__module__
            raise TrackerError(
                f"tracker.backbone={name} is no plain ViT, but a model of {module}; OSTrack takes ViTs of "
                f"timm.models.{', '.join(MODULES)}, e.g. {WORKS}; similar names: {near}"
            )
        raise TrackerError(f"timm has no plain ViT named '{name}'; similar names: {near}. Try {WORKS}")
    try:
        with torch.device("meta"):
            return timm.create_model(architecture, **sizes)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise TrackerError(
            f"timm cannot build {name} with {dict(sizes)}: {error}. Try other sizes, or {WORKS}"
        ) from error


def _check_parts(vit: Any, name: str) -> None:
    """Raises TrackerError if a ViT has parts that the backbone would not run or declare as groups."""
    block, embed = vit.blocks[0], vit.patch_embed
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    rope, norm = getattr(vit, "rope", None), getattr(block, "norm1", None)
    odd = {
        f"the form of a {type(vit).__name__}": type(vit) not in (VisionTransformer, Eva),
        f"blocks that are {type(block).__name__}": type(block) not in (Block, EvaBlock),
        f"attention that is {type(attention).__name__}": attention is not None
        and type(attention) not in (PlainAttention, EvaAttention, AttentionRope),
        "keys and values that several heads share": any(
            getattr(getattr(b, "attn", None), "num_kv_groups", 1) > 1 for b in vit.blocks
        ),
        "norms of queries and keys": _has(attention, "q_norm"),
        "a norm inside attention": _has(attention, "norm"),
        "gates inside attention": getattr(attention, "gate", None) is not None,
        f"an MLP that is {type(mlp).__name__}": mlp is not None and type(mlp) not in (Mlp, GluMlp, SwiGLU),
        "a norm inside an MLP without gates": isinstance(mlp, Mlp) and _has(mlp, "norm"),
        f"norms that are {type(norm).__name__}": norm is not None and not isinstance(norm, nn.LayerNorm | RmsNorm),
        f"rotary positions that are {type(rope).__name__}": rope is not None
        and type(rope) not in (RotaryEmbeddingCat, RotaryEmbeddingDinoV3),
        f"a {type(embed).__name__}": type(embed) is not PatchEmbed,
    }
    if found := [part for part, present in odd.items() if present]:
        raise TrackerError(
            f"tracker.backbone={name} has {', '.join(found)}: not supported in OSTrack; choose another ViT, e.g. "
            f"{WORKS} (docs/vits.md lists all)"
        )


def _has(module: Any, part: str) -> bool:
    """Returns whether a module has a part that is more than a placeholder."""
    return not isinstance(getattr(module, part, None), nn.Identity | None)
