"""The cut of a network itself, which is undone unless the cut network computes what the masked network computes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pruning.gates import Gates
from pruning.plan import Plan
from pruning.surgery import compact
from pruning.surgery.transaction import unchanged_on_error
from pruning.trial.comparison import TOLERANCE, are_finite, difference
from pruning.trial.cut_errors import naming_modules
from pruning.trial.unchanged_buffers import run_unchanged


def cut_and_compare(attached: Gates, plan: Plan, draws: Sequence[Mapping[str, Any]], fold_values: bool) -> float:
    """Cuts the network of the gates in place and returns the difference between the masked and the cut network.

    Args:
        attached: gates of the network, which is in evaluation mode after the cut, and after an error as it was before.
        plan: the units to keep.
        draws: arguments of the forward by name, on the device of the network.
        fold_values: whether the learned gates of kept units are multiplied into the weights; otherwise they are 1.

    Returns:
        The largest difference of the outputs, relative to the largest output; the median over the draws.

    Raises:
        CutError: the cut network does not run.
        PruningError: surgery cannot make the cut, or the outputs cannot be compared.
        RuntimeError: the outputs differ by more than float rounding can explain, or are not finite for some draw.
    """
    network = attached.network
    with unchanged_on_error(network), torch.no_grad():
        gates = Gates(network, attached.groups)
        gates.close(plan)
        if fold_values:
            gates.values.copy_(attached.values)
        network.eval()
        with gates.folded():
            masked = [run_unchanged(network, draw) for draw in draws]
        if not all(are_finite(output) for output in masked):
            raise RuntimeError("the outputs of the masked network are not finite, so its weights cannot be used")
        gates.fold_permanently()
        compact(network, gates.groups, plan)
        with naming_modules(network, gates.groups, plan):
            cut = [run_unchanged(network, draw) for draw in draws]
        errors = torch.stack([difference(m, c) for m, c in zip(masked, cut, strict=True)])
        # `max` returns nan if there is one
        error = float(errors.quantile(0.5) if errors.isfinite().all() else errors.max())
        if not error < TOLERANCE:
            raise RuntimeError(
                f"the compacted network differs from the masked one by {error:.1e} relative to the largest output: "
                "some group does not declare all tensors that its units cut. The network is left uncut"
            )
    return error
