"""Names and kinds of found groups."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pruning.groups import Slice


def name_and_kind(network: nn.Module, slices: Sequence[Slice], has_norms: bool, is_attention: bool) -> tuple[str, str]:
    """Returns the name and the kind of a group.

    The name is the path of the first layer that produces the units. Kinds are "attention" (heads, or dims of heads),
    "width" (channels of a stream that norms normalise), "stream" (channels that several layers produce together),
    "mlp" (hidden units between linear layers) and "conv" (channels between convolutions).

    Args:
        network: the network.
        slices: slices of the group.
        has_norms: whether norms compute statistics over the units.
        is_attention: whether the units are heads.
    """
    written = [s.path.rpartition(".")[0] for s in slices if s.dim == 0 and s.path.endswith(".weight")]
    layers = {path: network.get_submodule(path) for path in written}
    producers = [path for path, layer in layers.items() if isinstance(layer, nn.Linear | _ConvNd)]
    name = (producers or [slices[0].path.rpartition(".")[0] or slices[0].path])[0]
    if is_attention:
        return name, "attention"
    if has_norms:
        return name, "width"
    if any(getattr(layers[path], "groups", 1) == 1 for path in producers[1:]):  # a depthwise layer adds no producer
        return name, "stream"
    return name, "mlp" if producers and isinstance(layers[name], nn.Linear) else "conv"
