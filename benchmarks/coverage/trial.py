"""One network, cut by one library and judged: a row of the results."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.coverage.judge import SAME, depends_on_input, difference, failure_after_cut, failure_of_export, reason
from benchmarks.coverage.models import build
from benchmarks.coverage.twin import NoTwinError, twin_of
from benchmarks.coverage.variation import vary
from pruning.cost import count_params

DRAWS = 3
MARGIN = 0.005  # how far above the ratio a network of the other library may stay


def row_of(entry: str, side: str, ratio: float, export: bool) -> dict[str, Any]:
    """Returns what became of one network.

    Args:
        entry: an entry of `models`.
        side: "ours" or "theirs".
        ratio: fraction of the parameters to keep.
        export: whether to export the cut network, too.

    Returns:
        "status" with a "reason":
        - "ok": all checks have passed.
        - "refused": the library said that it cannot make the cut, or failed while it made it, and the network is whole.
        - "broken": the library has returned a network without an error that does not run, train, copy or save.
        - "wrong": the network runs, but computes something else than the network with the same weights masked.
        - "short": the network works, but has too many parameters.
        Besides, as far as the cut came: "ratio" achieved, "error" against the masked twin, and "seconds" of the
        processor for the cut.
    """
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    cut_network = _cutter(side)  # before the network is built, since it may choose how timm builds it
    network, pixels = build(entry)
    dense = network.double()
    draws = [torch.randn(2, 3, pixels, pixels, dtype=torch.float64) for _ in range(DRAWS)]
    vary(dense, torch.randn(4, 3, pixels, pixels, dtype=torch.float64))
    start = time.process_time()
    try:
        cut, more = cut_network(dense, draws[0], ratio)
    except Exception as fault:
        status = "broken" if type(fault).__name__ == "DidNotRunError" else "refused"
        known = getattr(fault, "known", {})
        return {"status": status, "reason": reason(fault), "seconds": time.process_time() - start, **known}
    factors = more.pop("factors", {})
    row = {"status": "ok", "reason": "", "seconds": time.process_time() - start, **more}
    row["ratio"] = count_params(cut) / count_params(dense)
    row |= _against_twin(dense, cut, factors, draws)
    if row["status"] == "ok" and row["ratio"] > ratio + (0 if side == "ours" else MARGIN):
        row |= {"status": "short", "reason": f"{row['ratio']:.3f} of the parameters are left"}
    if row["status"] == "ok" and depends_on_input(dense, draws[0]) and not depends_on_input(cut, draws[0]):
        row |= {"status": "broken", "reason": "the outputs no longer depend on the image"}
    if row["status"] == "ok" and (failure := failure_after_cut(cut, draws[0])):
        row |= {"status": "broken", "reason": failure}
    if row["status"] == "ok" and export and (failure := failure_of_export(cut, draws[0])):
        row |= {"status": "broken", "reason": failure}
    return row


def _cutter(side: str) -> Callable[[nn.Module, Tensor, float], tuple[nn.Module, dict[str, Any]]]:
    """Returns a function that returns a cut network and further columns. Only one of the libraries is imported."""
    if side == "theirs":
        from benchmarks.coverage import theirs

        return lambda *arguments: (theirs.cut(*arguments), {})
    from benchmarks.coverage import ours

    return ours.cut


def _against_twin(dense: nn.Module, cut: nn.Module, factors: dict, draws: list) -> dict[str, Any]:
    """Returns the error against the masked twin, and the status that follows from it."""
    try:
        twin = twin_of(dense, cut, factors)
    except NoTwinError as fault:
        return {"error": None, "status": "wrong", "reason": f"no masked network is equal: {fault}"}
    with torch.no_grad():
        error = max(difference(twin(images), cut(images)) for images in draws)
    if error > SAME:
        return {"error": error, "status": "wrong", "reason": f"differs from the masked network by {error:.0e}"}
    return {"error": error}
