"""Measures how much of the saved MACs becomes saved time on the CPU, in several formats and runtimes.

python benchmarks/speedup.py tracker=ostrack scale=full tracker.elimination=null pruning.round_to=8
python benchmarks/speedup.py --ratios 0.25 --formats eager,onnx tracker=stark scale=full pruning.round_to=8
python benchmarks/speedup.py --ratios 0.25 tracker=dimp scale=full pruning.ratio_of=macs pruning.round_to=8

The realised speed-up is (latency of the dense network / latency of the child) / (MACs of the dense network / MACs of
the child), both in the same format; 1 is ideal. The timed call is the forward of every frame. Children are those of
`children.py`; nothing is trained.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from children import child
from command import composed, parser
from export import channels_last, folded, onnx_call
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.cost import count_macs
from pruning.cost.turns import RUNS, WARMUP, medians

FORMATS = {"eager": "NCHW", "channels_last": "NHWC", "folded": "folded", "onnx": "ORT"}  # headings
MEANING = "NCHW, NHWC: eager; folded: NHWC without batch norms; ORT: ONNX Runtime, without batch norms"


def main() -> None:
    """Prints a table with the dense network and one row per ratio."""
    options = parser(__doc__)
    options.add_argument("--ratios", default="0.5,0.25,0.1", help="fractions kept (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, help="threads of each runtime (default: %(default)s)")
    options.add_argument("--formats", default=",".join(FORMATS), help="formats to compare (default: %(default)s)")
    given, overrides = options.parse_known_args()
    formats = given.formats.split(",")
    if unknown := sorted({*formats} - {*FORMATS}):
        options.error(f"--formats names {unknown}; choose from {sorted(FORMATS)}")
    torch.set_num_threads(given.threads)
    cfg = composed(overrides)

    ratios = [1.0, *(float(r) for r in given.ratios.split(",") if float(r) < 1)]
    macs, errors, calls = {}, {}, {}
    for ratio in track(ratios, description="cutting and exporting"):
        tracker, _ = child(cfg, ratio)
        network, inputs = tracker.network.eval().requires_grad_(False), tracker.frame_inputs()
        macs[ratio] = count_macs(network, inputs).total
        made = {name: in_format(network, inputs, name, given.threads) for name in formats}
        errors[ratio] = _difference(made, partial(network, **inputs))
        calls |= {(ratio, name): call for name, call in made.items()}
    where = f"{given.threads} threads" if given.threads > 1 else "1 thread"
    protocol = (
        f"batch 1, float32, CPU, {where}, median of {RUNS} after {WARMUP} warm-ups, all interleaved in one process"
    )
    _print(
        f"{cfg.tracker._target_}, {cfg.scale}: realised speed-up in the same format; {protocol}; {MEANING}",
        cfg.tracker._target_.rpartition(".")[2],
        formats,
        macs,
        errors,
        medians(calls),
    )


def in_format(network: nn.Module, inputs: dict[str, Any], name: str, threads: int) -> Callable[[], Any]:
    """Returns a function that runs the forward in one of `FORMATS`."""
    if name == "onnx":
        return onnx_call(folded(network, inputs), inputs, threads)
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
    tracker: str,
    formats: list[str],
    macs: dict[float, int],
    errors: dict[float, float],
    times: dict[tuple[float, str], float],
) -> None:
    table = Table(title=title)
    for column in ("tracker", "ratio", "MACs (G)", "of dense", *(FORMATS[name] for name in formats), "error"):
        table.add_column(column, justify="right")
    for ratio, count in macs.items():
        share = count / macs[1.0]
        cells = [
            f"{times[ratio, name]:.1f} ms"
            + (f"  {times[1.0, name] / times[ratio, name] * share:.2f}" if ratio < 1 else "")
            for name in formats
        ]
        table.add_row(tracker, f"{ratio:g}", f"{count / 1e9:.3f}", f"{share:.3f}", *cells, f"{errors[ratio]:.0e}")
    Console().print(table)


if __name__ == "__main__":
    main()
