"""Rules of operators that take entries by their numbers."""

from pruning.discovery.flow import Flow, integers
from pruning.discovery.recording import Operator, Value


def embedding(flow: Flow, operator: Operator) -> None:
    """Takes rows of a table."""
    weight, indices = operator.arguments["weight"], operator.arguments["indices"]
    rows, columns = flow.of(weight)
    flow.freeze_mixed(operator, rows)
    flow.set(operator.results[0], [*[None] * len(indices.shape), columns])


def index(flow: Flow, operator: Operator) -> None:
    """Takes entries by tensors of numbers, one for each indexed dimension."""
    x, result = operator.arguments["self"], operator.results[0]
    tensors = list(operator.arguments["indices"])
    tensors += [None] * (len(x.shape) - len(tensors))
    labels, given = flow.of(x), [d for d, t in enumerate(tensors) if isinstance(t, Value)]
    for d in given:
        flow.freeze_mixed(operator, labels[d])
    wide = max((len(t.shape) for t in tensors if isinstance(t, Value)), default=0)
    rest = [labels[d] for d in range(len(x.shape)) if d not in given]
    together = given == list(range(given[0], given[-1] + 1)) if given else False
    at = given[0] if together else 0
    joined = [*rest[:at], *[None] * wide, *rest[at:]]
    flow.set(result, joined if len(joined) == len(result.shape) else [None] * len(result.shape))


def index_select(flow: Flow, operator: Operator) -> None:
    """Takes entries of one dimension by their numbers."""
    x = operator.values[0]
    labels, dim = list(flow.of(x)), integers(operator, "dim")[0]
    flow.freeze_mixed(operator, labels[dim])
    labels[dim] = None
    flow.set(operator.results[0], labels)


def gather(flow: Flow, operator: Operator) -> None:
    """Takes entries of one dimension by numbers of the result's shape."""
    x, numbers = operator.values[:2]
    labels, dim = list(flow.of(x)), integers(operator, "dim")[0] % len(x.shape)
    flow.freeze_mixed(operator, labels[dim])
    labels[dim] = None
    for d, part in enumerate(flow.of(numbers)):
        if d != dim:
            if x.shape[d] == numbers.shape[d]:
                labels[d] = flow.unite(labels[d], part, operator) if part is not None else labels[d]
            else:
                flow.freeze_mixed(operator, labels[d])
                labels[d] = None
    flow.set(operator.results[0], labels)


def scatter(flow: Flow, operator: Operator) -> None:
    """Writes entries of one tensor into another, by numbers along one dimension."""
    x, dim = operator.values[0], integers(operator, "dim")[0] % len(operator.results[0].shape)
    labels = list(flow.of(x))
    for other in operator.values[1:]:
        for d, part in enumerate(flow.of(other)):
            if d != dim and other.shape[d] == x.shape[d]:
                labels[d] = flow.unite(labels[d], part, operator) if part is not None else labels[d]
            else:
                flow.freeze_mixed(operator, part)
    flow.freeze_mixed(operator, labels[dim])
    labels[dim] = None
    flow.set(operator.results[0], labels)


INDEXING = {"embedding": embedding, "index": index, "index_select": index_select, "gather": gather, "scatter": scatter}
