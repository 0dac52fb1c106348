"""Names and kinds of found groups."""

from collections.abc import Sequence

from torch import nn

from pruning.groups import Slice


def name_of(network: nn.Module, slices: Sequence[Slice], has_norms: bool, is_attention: bool) -> tuple[str, str]:
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
    producers = [
        path for path in written if isinstance(network.get_submodule(path), nn.Linear | nn.modules.conv._ConvNd)
    ]
    name = (producers or [slices[0].path.rpartition(".")[0] or slices[0].path])[0]
    if is_attention:
        return name, "attention"
    if has_norms:
        return name, "width"
    if len(producers) > 1 and not all(
        isinstance(m := network.get_submodule(p), nn.modules.conv._ConvNd) and m.groups > 1 for p in producers[1:]
    ):
        return name, "stream"
    return name, "mlp" if producers and isinstance(network.get_submodule(producers[0]), nn.Linear) else "conv"
