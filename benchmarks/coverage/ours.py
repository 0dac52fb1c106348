"""A cut with groups that the library finds itself."""

import copy
import inspect
import math
import time
from typing import Any

from torch import Tensor, nn

from pruning import Pruner, find_groups
from pruning.criteria.magnitude import Magnitude


def cut(
    dense: nn.Module, images: Tensor, ratio: float, ratio_of: str = "params", round_to: int = 1
) -> tuple[nn.Module, dict[str, Any]]:
    """Returns a copy of a network, cut to `ratio`, and what the library tells about it.

    Args:
        dense: the network, which is not changed.
        images: a batch, (B, 3, H, W).
        ratio: fraction to keep.
        ratio_of, round_to: as for `Pruner`.

    Returns:
        The cut network, and by name: "share", the fraction of the parameters that some group can cut; "whole", the
        reasons why the others are left whole, with an example of each; "search", the processor's seconds of the search;
        "reported", the error that the library reports; "factors", by names of parameters, the factors by which the cut
        has multiplied some of the kept entries. An error has the same as its attribute `known`, as far as it came.
    """
    network, known = copy.deepcopy(dense), {}
    argument = argument_of(network)
    try:
        start = time.process_time()
        found = find_groups(network, lambda _: {argument: images[:1]})
        known["search"] = time.process_time() - start
        known["share"] = found.share
        known["whole"] = [f"{w.tensors[0] if w.tensors else ''}: {w.reason}" for w in found.whole]
        pruner = Pruner(ratio=ratio, criterion=Magnitude(), ratio_of=ratio_of, round_to=round_to)
        pruner.attach(network, found.groups, inputs=lambda n: {argument: images[:1].to(next(n.parameters()).device)})
        pruner.update()
        known["reported"] = pruner.finish([{argument: images}])["masked_vs_compacted"]
    except Exception as fault:
        fault.known = known
        raise
    kept, factors = pruner.kept_counts(), {}
    for group in pruner.groups:
        for s in group.slices:
            if s.rescaled:
                factors.setdefault(s.path, set()).add(math.sqrt(kept[group.name] / group.size))
    return network, known | {"factors": factors}


def argument_of(network: nn.Module) -> str:
    """Returns the name of the first argument of a network's forward."""
    return next(iter(inspect.signature(network.forward).parameters))
