"""Measures how much of the saved MACs becomes saved time on the CPU, in several formats and runtimes.

python benchmarks/speedup.py tracker=ostrack scale=full tracker.elimination=null pruning.ratio_of=macs
python benchmarks/speedup.py --ratios 0.25 --round-to 1,8,auto tracker=dimp scale=full pruning.ratio_of=macs
python benchmarks/speedup.py --ratios 0.25 --formats eager,openvino tracker=stark scale=full pruning.ratio_of=macs

The realised speed-up is (time of the dense network / time of the child) / (MACs of the dense network / MACs of the
child), both in the same format; 1 is ideal. It is the median over rounds, in which all networks and formats take turns.
With one thread, the clock is the processor time of the process, which other work on the machine does not lengthen; with
more threads it is the clock on the wall. The timed call is the forward of every frame. Children are those of
`children.py`; nothing is trained.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from children import child
from command import composed, parser
from export import channels_last, folded, onnx_call, openvino_call
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.cost import count_macs
from pruning.cost.turns import WARMUP, time_in_turns

# Headings of the formats.
FORMATS = {"eager": "NCHW", "channels_last": "NHWC", "folded": "folded", "onnx": "ORT", "openvino": "OpenVINO"}
MEANING = "NCHW, NHWC: eager; folded: NHWC without batch norms; ORT: ONNX Runtime; both runtimes without batch norms"


class Cut(NamedTuple):
    """Child: the ratio that it keeps, and `pruning.round_to` of its cut."""

    ratio: float
    round_to: str


DENSE = Cut(1.0, "-")


def main() -> None:
    """Prints a table with the dense network and one row per child."""
    options = parser(__doc__)
    options.add_argument("--ratios", default="0.5,0.25,0.1", help="fractions kept (default: %(default)s)")
    options.add_argument("--round-to", help="values of pruning.round_to (default: that of the configuration)")
    options.add_argument("--threads", type=int, default=1, help="threads of each runtime (default: %(default)s)")
    options.add_argument("--formats", default=",".join(FORMATS), help="formats to compare (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=50, help="timed rounds (default: %(default)s)")
    given, overrides = options.parse_known_args()
    formats = given.formats.split(",")
    if unknown := sorted({*formats} - {*FORMATS}):
        options.error(f"--formats names {unknown}; choose from {sorted(FORMATS)}")
    torch.set_num_threads(given.threads)

    cfg = composed(overrides)
    rounding = given.round_to.split(",") if given.round_to else [str(cfg.pruning.round_to)]
    cuts = [DENSE, *(Cut(float(r), to) for r in given.ratios.split(",") if float(r) < 1 for to in rounding)]
    macs: dict[Cut, int] = {}
    errors: dict[Cut, float] = {}
    calls: dict[tuple[Cut, str], Callable[[], Any]] = {}
    for cut in track(cuts, description="cutting and exporting"):
        rounded = [] if cut == DENSE else [f"pruning.round_to={cut.round_to}"]
        tracker, _ = child(composed([*overrides, *rounded]), cut.ratio)
        network, inputs = tracker.network.eval().requires_grad_(False), tracker.frame_inputs()
        macs[cut] = count_macs(network, inputs).total
        made = {name: in_format(network, inputs, name, given.threads) for name in formats}
        errors[cut] = _difference(made, partial(network, **inputs))
        calls |= {(cut, name): call for name, call in made.items()}
    clock = time.process_time if given.threads == 1 else time.perf_counter
    protocol = (
        f"batch 1, float32, CPU, {torch.backends.cpu.get_cpu_capability()}, threads: {given.threads}, "
        f"{'processor' if given.threads == 1 else 'wall'} time, {given.rounds} rounds after {WARMUP} warm-ups"
    )
    _print(
        f"{cfg.tracker._target_}, {cfg.scale}: median milliseconds, and median realised speed-up in the same format; "
        f"{protocol}; {MEANING}",
        formats,
        macs,
        errors,
        time_in_turns(calls, runs=given.rounds, clock=clock),
    )


def in_format(network: nn.Module, inputs: dict[str, Any], name: str, threads: int) -> Callable[[], Any]:
    """Returns a function that runs the forward in one of `FORMATS`."""
    if name in ("onnx", "openvino"):
        call = onnx_call if name == "onnx" else openvino_call
        return call(folded(network, inputs), inputs, threads)
    if name == "eager":
        return partial(network, **inputs)
    return partial(channels_last(folded(network, inputs) if name == "folded" else network), **inputs)


@torch.inference_mode()
def _difference(made: dict[str, Callable[[], Any]], reference: Callable[[], Any]) -> float:
    """Returns the largest difference of any format from the plain network, relative to the largest reference value.

    Only the first output is compared: with random weights, boxes that follow a gradient on the score maps diverge, and
    rounding decides where they go.
    """
    expected: Tensor = tree_leaves(reference())[0]
    outputs = [torch.as_tensor(tree_leaves(call())[0]) for call in made.values()]
    return max(float((output - expected).abs().max() / expected.abs().max()) for output in outputs)


def _print(
    title: str,
    formats: list[str],
    macs: Mapping[Cut, int],
    errors: Mapping[Cut, float],
    times: Mapping[tuple[Cut, str], np.ndarray],
) -> None:
    table = Table(title=title)
    for column in ("ratio", "round_to", "MACs (G)", "of dense", *(FORMATS[name] for name in formats), "error"):
        table.add_column(column, justify="right")
    for cut, count in macs.items():
        share = count / macs[DENSE]
        cells = []
        for name in formats:
            own, dense = times[cut, name], times[DENSE, name]
            realised = f"  {median(dense / own) * share:.3f}" if cut != DENSE else ""
            cells.append(f"{1e3 * median(own):.1f} ms{realised}")
        table.add_row(
            f"{cut.ratio:g}", cut.round_to, f"{count / 1e9:.3f}", f"{share:.3f}", *cells, f"{errors[cut]:.0e}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
