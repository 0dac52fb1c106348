"""Rules of norms."""

from pruning.discovery.flow import Flow, Labels, integers
from pruning.discovery.recording import Operator, Value


def batch_norm(flow: Flow, operator: Operator) -> None:
    """Normalises every channel by itself."""
    x = operator.values[0]
    labels = list(flow.of(x))
    _unite_channels(flow, operator, labels)
    if operator.arguments.get("training") or operator.arguments.get("running_mean") is None:
        for d, part in enumerate(labels):
            if d != 1:
                flow.freeze_mixed(operator, part)
    flow.set(operator.results[0], labels)


def layer_norm(flow: Flow, operator: Operator) -> None:
    """Normalises over the last dimensions. Statistics over units need a norm that counts the kept units only."""
    x = operator.values[0]
    labels = list(flow.of(x))
    over = integers(operator, "normalized_shape")
    if len(over) > 1:
        for part in labels[-len(over) :]:
            flow.freeze_mixed(operator, part)
    for name in ("weight", "bias"):
        tensor = operator.arguments.get(name)
        if isinstance(tensor, Value):
            for d, part in enumerate(flow.of(tensor)):
                at = d - len(over)
                labels[at] = flow.unite(labels[at], part, operator)
    if len(over) == 1 and labels[-1] is not None:
        flow.norms_over_units.append((operator, labels[-1]))
        flow.require(operator, over[0], labels[-1])
    flow.set(operator.results[0], labels)


def group_norm(flow: Flow, operator: Operator) -> None:
    """Normalises blocks of channels: a block is a unit, or, if there is one block, statistics are over all units."""
    x = operator.values[0]
    labels, groups = list(flow.of(x)), int(operator.arguments["group"])
    _unite_channels(flow, operator, labels)
    channels = labels[1]
    if channels is not None and groups == 1:
        flow.norms_over_units.append((operator, channels))
    elif channels is not None:
        blocks = flow.unite_rows(channels.reshape(groups, -1), operator)
        if not flow.require(operator, groups, blocks):
            flow.freeze_mixed(operator, channels)
    flow.set(operator.results[0], labels)


def _unite_channels(flow: Flow, operator: Operator, labels: Labels) -> None:
    """Unites the channels of an input with the entries of the norm's tensors."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = operator.arguments.get(name)
        if isinstance(tensor, Value):
            labels[1] = flow.unite(labels[1], flow.of(tensor)[0], operator)


NORMS = (
    dict.fromkeys(
        ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
        + ("_batch_norm_no_update", "batch_norm", "miopen_batch_norm"),
        batch_norm,
    )
    | dict.fromkeys(("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm"), layer_norm)
    | {"native_group_norm": group_norm}
)
