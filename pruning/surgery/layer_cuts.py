"""Cuts of torch's layers: which cuts a layer allows, and the sizes that it stores besides its tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNCellBase
from torch.nn.utils import parametrize

from pruning.errors import PruningError
from pruning.surgery.multihead_attention import CutMultiheadAttention, allow_any_width, projection_widths

# Layers that hold the number of their units in ways that surgery does not know.
UNSUPPORTED = (nn.RNNBase, RNNCellBase)

# Attentions of other classes may compute anything else.
ATTENTIONS = (nn.MultiheadAttention.forward, CutMultiheadAttention.forward)


@dataclass
class LayerCut:
    """What a module loses.

    Attributes:
        path, module: the module.
        kept: kept entries by tensor name and dim.
        fewer: decrease of its attributes that count units, by name.
        norm_size: number of kept units if a group declares the module in `norms`.
    """

    path: str
    module: Any
    kept: dict[str, Mapping[int, Tensor]] = field(default_factory=dict)
    fewer: dict[str, int] = field(default_factory=dict)
    norm_size: int | None = None

    def entries(self, name: str, dim: int) -> Tensor:
        """Returns the kept entries of a tensor along `dim`: all entries if the tensor is not cut there."""
        uncut = torch.arange(self.module.get_parameter(name).shape[dim])
        return self.kept.get(name, {}).get(dim, uncut)

    def count(self, name: str) -> int:
        """Returns an attribute that counts units, after the cut."""
        return getattr(self.module, name) - self.fewer.get(name, 0)


def check_layer_cut(cut: LayerCut) -> None:
    """Checks that the layer after the cut computes the same as the masked layer, as far as its class tells.

    Raises:
        PruningError: surgery does not support the layer, or the kept entries do not fit the groups or heads of the
            layer. The message has the path of the layer.
    """
    _check_supported(cut)
    for kinds, check in _CHECKS:
        if isinstance(cut.module, kinds):
            check(cut)


def sync_sizes(cut: LayerCut) -> None:
    """Sets the size attributes of a layer, which exporters and `print` read, to the sizes of its cut tensors."""
    layer = cut.module
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Bilinear):
        layer.out_features, layer.in1_features, layer.in2_features = layer.weight.shape
    elif isinstance(layer, _ConvNd):
        rows, columns = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
        layer.in_channels, layer.out_channels = (rows, columns) if layer.transposed else (columns, rows)
    elif isinstance(layer, _NormBase):
        tensor = layer.weight if layer.running_mean is None else layer.running_mean
        layer.num_features = layer.num_features if tensor is None else tensor.numel()
    elif isinstance(layer, nn.GroupNorm):
        size = layer.num_channels if cut.norm_size is None else cut.norm_size
        layer.num_channels = size if layer.weight is None else layer.weight.numel()
    elif isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        layer.embedding_dim = layer.weight.shape[1]
    elif isinstance(layer, nn.MultiheadAttention):
        allow_any_width(layer)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.numel()
    elif hasattr(layer, "normalized_shape") and isinstance(getattr(layer, "weight", None), Tensor):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif hasattr(layer, "normalized_shape") and cut.norm_size is not None:
        layer.normalized_shape = (cut.norm_size,)


def _check_supported(cut: LayerCut) -> None:
    """Checks that the tensors of a layer are all that a cut of it has to change."""
    layer = cut.module
    is_foreign = isinstance(layer, nn.MultiheadAttention) and type(layer).forward not in ATTENTIONS
    if isinstance(layer, UNSUPPORTED) or is_foreign:
        raise PruningError(f"surgery does not support {type(layer).__name__}: '{cut.path}'")
    if parametrize.is_parametrized(layer) or isinstance(layer, parametrize.ParametrizationList):
        raise PruningError(
            f"surgery does not support parametrizations: '{cut.path}'. Make the weight a parameter of its own before: "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, name)"
        )
    for name in cut.kept:
        tensor = getattr(layer.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
        if tensor.layout != torch.strided:
            raise PruningError(f"surgery does not support sparse tensors: '{cut.path}.{name}' ({tensor.layout})")


def _check_weight_is_used_as_it_is(cut: LayerCut) -> None:
    """Checks that a layer that loses inputs does not change its weight, e.g. standardise it, before it is used."""
    kind = type(cut.module)
    if 1 in cut.kept.get("weight", {}) and not _is_linear_in_weight(kind):
        raise PruningError(
            f"surgery does not support layers that change their weight, as {kind.__name__} does: '{cut.path}'. "
            "The change depends on all inputs, so it would be another one after a cut of inputs"
        )


@cache
def _is_linear_in_weight(kind: type[Any]) -> bool:
    """Returns whether outputs of a class of convolutions or linear layers are linear in their weight.

    A layer that standardises its weight is not. Layers of torch are, and so are classes that cannot be tried.
    """
    if kind.__module__.startswith("torch."):
        return True
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
            is_conv = issubclass(kind, nn.Conv2d)
            layer, x = (kind(4, 6, 3), torch.rand(1, 4, 8, 8)) if is_conv else (kind(4, 6), torch.rand(1, 4))
            scaled = [functional_call(layer, {"weight": k * layer.weight}, (x,)) for k in (0, 1, 2)]
    except Exception:  # it needs other arguments, or inputs of other shapes: any error is possible
        return True
    return torch.allclose(scaled[2] - scaled[0], 2 * (scaled[1] - scaled[0]), rtol=1e-3, atol=1e-4)


def _check_convolution(cut: LayerCut) -> None:
    """Checks that every group of a convolution stays whole, or keeps as many entries as all others."""
    conv, groups = cut.module, cut.count("groups")
    if not isinstance(conv.weight, nn.Parameter):
        return  # other parameters make the weight, as with torch.nn.utils.weight_norm, and they are cut
    rows = cut.entries("weight", 0)  # outputs, or inputs of a transposed convolution
    per_group = _entries_per_block(rows, conv.weight.shape[0], conv.groups)
    if not _fit_blocks(per_group, groups):
        side = "inputs" if conv.transposed else "outputs"
        raise PruningError(
            f"the cut leaves {_listed(per_group)} {side} in the {conv.groups} groups of the convolution '{cut.path}', "
            f"with {groups} groups after the cut. Every group must lose the same number, or whole groups must go: "
            f"{side} of one group are one unit, and the units are counted by attributes=(('{cut.path}.groups', 1),)"
        )
    if conv.bias is None:
        return
    outputs = rows
    if conv.transposed:
        columns, starts = cut.entries("weight", 1), per_group.nonzero().flatten() * conv.weight.shape[1]
        outputs = (starts[:, None] + columns).flatten()
    if not torch.equal(cut.entries("bias", 0), outputs):
        raise PruningError(
            f"the cut of '{cut.path}.bias' keeps {len(cut.entries('bias', 0))} entries, but not those of the "
            f"{len(outputs)} outputs that '{cut.path}.weight' keeps; declare the same units of both"
        )


def _check_group_norm(cut: LayerCut) -> None:
    """Checks that a GroupNorm keeps or loses whole groups, as its statistics are over the channels of a group."""
    norm, groups = cut.module, cut.count("num_groups")
    if cut.norm_size is not None or norm.weight is None:
        return
    per_group = _entries_per_block(cut.entries("weight", 0), norm.num_channels, norm.num_groups)
    whole = set(per_group.tolist()) <= {0, norm.num_channels // norm.num_groups}
    if not whole or int((per_group > 0).sum()) != groups:
        raise PruningError(
            f"the cut leaves {_listed(per_group)} channels in the {norm.num_groups} groups of '{cut.path}', with "
            f"{groups} groups after the cut. Whole groups must go, as the statistics are over the channels of a group: "
            f"all channels of a group are one unit, with attributes=(('{cut.path}.num_groups', 1),). A GroupNorm with "
            f"one group over exactly the units belongs into norms=('{cut.path}',)"
        )


def _check_attention(cut: LayerCut) -> None:
    """Checks that an attention loses whole heads, or as many dims of every head, and the same in all its tensors."""
    attention, heads, widths = cut.module, cut.count("num_heads"), projection_widths(cut.module)
    starts = [0, widths[0], 2 * widths[0]]
    if attention.in_proj_weight is None:
        q, k, v = (cut.entries(f"{name}_proj_weight", 0) for name in "qkv")
    else:
        rows = cut.entries("in_proj_weight", 0)
        q, k, v = (rows[(rows >= a) & (rows < a + n)] - a for a, n in zip(starts, widths, strict=True))
    wanted = {("out_proj.weight", 1): ("values", v)}
    if attention.in_proj_bias is not None:
        rows = torch.cat([part + start for part, start in zip((q, k, v), starts, strict=True)])
        wanted["in_proj_bias", 0] = ("queries, keys and values", rows)
    if attention.bias_k is not None:
        wanted |= {("bias_k", 2): ("keys", k), ("bias_v", 2): ("values", v)}
    for (name, dim), (rows_of, rows) in wanted.items():
        if not torch.equal(cut.entries(name, dim), rows):
            raise PruningError(
                f"the cut of the attention '{cut.path}' keeps other entries along dim {dim} of '{cut.path}.{name}' "
                f"than rows of the {rows_of} in its projections; declare the same units of both"
            )
    per_head = [_entries_per_block(x, n, attention.num_heads) for x, n in zip((q, k, v), widths, strict=True)]
    same_heads = torch.equal(per_head[0] > 0, per_head[2] > 0)
    if not (torch.equal(q, k) and same_heads and all(_fit_blocks(counts, heads) for counts in per_head)):
        raise PruningError(
            f"the cut leaves {_listed(per_head[0])} dims of the queries, {_listed(per_head[1])} of the keys and "
            f"{_listed(per_head[2])} of the values in the heads of '{cut.path}', with {heads} heads after the cut. "
            f"Whole heads must go, with attributes=(('{cut.path}.num_heads', 1),), or the same number of dims of every "
            "head, and the same dims of queries and keys"
        )


def _check_embedding(cut: LayerCut) -> None:
    """Checks that a table of vectors keeps all its rows."""
    if 0 in cut.kept.get("weight", {}):
        raise PruningError(
            f"'{cut.path}.weight' loses rows, but a row of {type(cut.module).__name__} is the meaning of an index, "
            f"which the cut would change; cut dim 1: Slice('{cut.path}.weight', 1)"
        )


def _entries_per_block(kept: Tensor, size: int, blocks: int) -> Tensor:
    """Returns how many of the `kept` entries lie in each block, if `size` entries form equal blocks: (blocks,)."""
    return torch.bincount(kept // max(size // max(blocks, 1), 1), minlength=blocks)  # an attention may have no heads


def _fit_blocks(per_block: Tensor, blocks: int) -> bool:
    """Returns whether `blocks` blocks keep entries, all of them equally many."""
    kept = per_block[per_block > 0]
    return len(kept) == blocks and len(kept.unique()) <= 1


def _listed(counts: Tensor) -> str:
    """Returns the counts as text, the first of them if there are many."""
    return f"{counts[:8].tolist()}{'...' * (len(counts) > 8)}"


# What each kind of layer allows. A layer may be of several kinds.
_CHECKS: tuple[tuple[Any, Callable[[LayerCut], None]], ...] = (
    (_ConvNd | nn.Linear, _check_weight_is_used_as_it_is),
    (_ConvNd, _check_convolution),
    (nn.GroupNorm, _check_group_norm),
    (nn.MultiheadAttention, _check_attention),
    (nn.Embedding | nn.EmbeddingBag, _check_embedding),
)
