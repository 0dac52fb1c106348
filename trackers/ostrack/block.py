"""Transformer block of a one-stream ViT, with its pruning groups."""

from dataclasses import replace
from typing import Any

from timm.layers import GluMlp, LayerScale, SwiGLU
from torch import Tensor, nn

from pruning.groups import Group, Slice
from trackers.layers.attention import Attention


class OneStreamBlock(nn.Module):
    """Block of a timm ViT, with norms in front of its branches and with LayerScale or none behind them.

    Names of parameters are those of timm's `Block`; the LayerScale of an `EvaBlock` gets these names, too.

    Args:
        block: timm's block, of which all parts but the attention are taken.
        attention: the attention.
    """

    def __init__(self, block: Any, attention: Attention):
        super().__init__()
        self.norm1, self.attn, self.ls1 = block.norm1, attention, _layer_scale(block, 1)
        self.drop_path1 = block.drop_path1
        self.norm2, self.mlp, self.ls2 = block.norm2, block.mlp, _layer_scale(block, 2)
        self.drop_path2 = block.drop_path2

    def forward(self, tokens: Tensor, rotary: Tensor | None = None) -> Tensor:
        """Maps tokens (B, N, C) to (B, N, C). See `Attention.forward` for `rotary`."""
        normal = self.norm1(tokens)
        attended = self.attn(normal) if rotary is None else self.attn(normal, rotary)
        return self.behind_attention(tokens + self.drop_path1(self.ls1(attended)))

    def behind_attention(self, tokens: Tensor) -> Tensor:
        """Maps the tokens (B, N, C) in front of the MLP to the output of the block."""
        return tokens + self.drop_path2(self.ls2(self.mlp(self.norm2(tokens))))

    def groups(self) -> list[Group]:
        """Returns the groups of attention and MLP. A branch without units is a constant, so its norms vanish."""
        attention = [g.with_prefix("attn.") for g in self.attn.groups()]
        mlp = [g.with_prefix("mlp.") for g in mlp_groups(self.mlp)]
        return [
            replace(g, vanish=(norm, *(g.vanish or ())))
            for norm, inner in (("norm1", attention), ("norm2", mlp))
            for g in inner
        ]

    def width_slices(self) -> tuple[list[Slice], list[str]]:
        """Returns the slices of the residual stream's width in the block, and the paths of its norms over the width.

        The gate acts on the layers that write into the stream. LayerScale behind them is a factor of each channel: it
        is cut, and a second gate on it would make the gate act twice.
        """
        slices: list[Slice] = []
        norms: list[str] = []
        readers = ["mlp.fc1_g", "mlp.fc1_x"] if isinstance(self.mlp, SwiGLU) else ["mlp.fc1"]
        for number, (norm, read, writer, inner) in enumerate(
            (
                ("norm1", ["attn.qkv"], "attn.proj", self.attn.groups()),
                ("norm2", readers, "mlp.fc2", mlp_groups(self.mlp)),
            ),
            1,
        ):
            if inner:
                norms.append(norm)
                slices += norm_slices(self, norm)
            slices += [Slice(f"{reader}.weight", 1) for reader in read]
            slices += slices_of(self, writer, gated=True)
            if isinstance(self.get_submodule(f"ls{number}"), LayerScale):
                slices.append(Slice(f"ls{number}.gamma", 0))
        return slices, norms


def mlp_groups(mlp: Any) -> list[Group]:
    """Returns the group of the hidden units of timm's Mlp, GluMlp or SwiGLU.

    A gated MLP has two rows for each hidden unit. Gates act behind the activation, so that masks are exact for every
    activation. A norm over the hidden units needs zeros in front of it, too, where units are masked.
    """
    hidden = mlp.fc2.in_features
    if not hidden:
        return []
    has_norm = not isinstance(mlp.norm, nn.Identity)
    starts = (0, hidden) if isinstance(mlp, GluMlp) else (0,)
    produced = ("fc1_g", "fc1_x") if isinstance(mlp, SwiGLU) else ("fc1",)
    slices = [s for layer in produced for s in slices_of(mlp, layer, offsets=starts, masked=has_norm)]
    slices += norm_slices(mlp, "norm")
    slices.append(Slice("fc2.weight", 1, gated=True))
    norms = ("norm",) if has_norm else ()
    return [Group("", "mlp", hidden, tuple(slices), norms, vanish=norms)]


def slices_of(network: nn.Module, layer: str, **options: Any) -> list[Slice]:
    """Returns the slices along dim 0 of a layer's weight and of its bias, if it has one.

    Args:
        network: the network.
        layer: path of the layer in the network.
        options: attributes of `Slice`.
    """
    module: Any = network.get_submodule(layer)
    names = [name for name in ("weight", "bias") if getattr(module, name, None) is not None]
    return [Slice(f"{layer}.{name}", 0, **options) for name in names]


def norm_slices(network: nn.Module, norm: str) -> list[Slice]:
    """Returns the slices of a norm over units, see `Group.norms`; none for a placeholder.

    A masked LayerNorm hides its own entries of masked units; entries of other norms are masked by their slices.
    """
    return slices_of(network, norm, masked=not isinstance(network.get_submodule(norm), nn.LayerNorm))


def _layer_scale(block: Any, number: int) -> nn.Module:
    """Returns the LayerScale of a block's first or second branch, with timm's names; `nn.Identity` if it has none."""
    if hasattr(block, f"ls{number}"):
        return getattr(block, f"ls{number}")
    gamma = getattr(block, f"gamma_{number}")
    if gamma is None:
        return nn.Identity()
    scale = LayerScale(len(gamma), init_values=block.init_values, device=gamma.device)
    scale.gamma = gamma
    return scale
