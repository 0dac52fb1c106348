"""Rules of operators that work element by element, of reductions and of new tensors."""

from pruning.discovery.flow import Flow, Labels, integers
from pruning.discovery.recording import Operator


def pointwise(flow: Flow, operator: Operator) -> None:
    """Unites the units of tensors that are combined element by element, with broadcasting."""
    result = operator.results[0]
    united: Labels = [None] * len(result.shape)
    seen = [False] * len(result.shape)
    for value in operator.values:
        skip = len(result.shape) - len(value.shape)
        for dim, labels in enumerate(flow.of(value)):
            at = dim + skip
            if at < 0 or value.shape[dim] != result.shape[at] or result.shape[at] == 1:
                continue  # a dimension of one entry is broadcast
            united[at] = flow.unite(united[at], labels, operator) if seen[at] else labels
            seen[at] = True
    flow.set(result, united)


def reduction(flow: Flow, operator: Operator) -> None:
    """Reduces some dimensions; a sum over units is a sum over the kept units, other statistics forbid their removal."""
    value, result = operator.values[0], operator.results[0]
    labels, rank = flow.of(value), len(value.shape)
    dims = [d % rank for name in ("dim", "dims") for d in integers(operator, name)] if rank else []
    reduced = set(dims) or set(range(rank))
    sums = operator.name in ("sum", "linalg_vector_norm", "norm")
    for d in reduced:
        units = labels[d]
        if units is not None and operator.name in ("mean", "var", "std") and len(reduced) == 1 and operator.module:
            flow.norms_over_units.append((operator, units))
        elif not sums:
            flow.freeze_mixed(operator, units)
    keep = len(result.shape) == rank
    left = [None if d in reduced else labels[d] for d in range(rank) if keep or d not in reduced]
    for r in operator.results:
        flow.set(r, left if len(left) == len(r.shape) else [None] * len(r.shape))


def along(flow: Flow, operator: Operator) -> None:
    """Mixes the positions of one dimension, e.g. a softmax, and keeps the shape."""
    value = operator.values[0]
    labels = list(flow.of(value))
    for dim in (*integers(operator, "dim"), *integers(operator, "dims")):
        flow.freeze_mixed(operator, labels[dim])
        labels[dim] = None
    for result in operator.results:
        flow.set(result, labels if len(result.shape) == len(labels) else [None] * len(result.shape))


def new(flow: Flow, operator: Operator) -> None:
    """Gives a new tensor units of its own, which other operators unite with those of other tensors."""
    for result in operator.results:
        flow.set(result, list(map(flow.fresh, result.shape)))


def same(flow: Flow, operator: Operator) -> None:
    """Gives the result the units of the first argument."""
    value = operator.values[0]
    for result in operator.results:
        if result is not value:
            flow.set(result, flow.of(value) if result.shape == value.shape else [None] * len(result.shape))


# Functions of single elements that PyTorch does not mark as such.
UNMARKED = (
    ("copy", "masked_fill", "where", "lerp", "addcmul", "addcdiv", "hardswish", "hardsigmoid", "hardtanh")
    + ("mish", "_prelu_kernel", "prelu", "softplus", "celu", "selu", "elu", "threshold", "log_sigmoid_forward")
    + ("rrelu", "rsub", "floor_divide", "rrelu_with_noise", "true_divide", "remainder", "fmod", "pow")
)

ELEMENTWISE = (
    dict.fromkeys(("pointwise", *UNMARKED), pointwise)
    | dict.fromkeys(
        ("sum", "mean", "amax", "amin", "max", "min", "var", "std", "var_mean", "prod", "norm", "any", "all")
        + ("linalg_vector_norm", "argmax", "argmin", "logsumexp"),
        reduction,
    )
    | dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax", "cumsum", "flip", "sort", "cumprod"), along)
    | dict.fromkeys(
        ("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "arange", "linspace")
        + ("zeros_like", "ones_like", "full_like", "empty_like", "scalar_tensor", "eye", "randn", "rand", "randn_like")
        + ("rand_like", "new_empty_strided", "empty_strided", "lift_fresh_copy"),
        new,
    )
    | dict.fromkeys(
        ("clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh", "dropout", "native_dropout", "bernoulli")
        + ("fill", "zero", "uniform", "normal", "_conj", "resolve_conj"),
        same,
    )
)
