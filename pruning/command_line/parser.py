"""Options of `python -m pruning`. The module imports nothing heavy, so that `--help` answers at once."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

EXAMPLE = "python -m pruning resnet18 --ratio 0.5 --ratio-of macs"
MODEL = """\
MODEL is one of
  resnet18                 a model of timm
  torchvision:resnet18     a model of torchvision
  package.module:function  a function without arguments that returns a torch.nn.Module, e.g. mynet:build for a
                           function in mynet.py of the current folder
"""


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; e.g. {EXAMPLE}\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options. Ends the process with exit code 2 if a word is wrong, and after `--help`."""
    parser = _Parser(
        prog="python -m pruning",
        description="Prunes a network without a training and saves the child. The groups of channels, heads and\n"
        "hidden units that can only be removed together are found in the network itself.",
        epilog=f"{MODEL}\nexample:\n  {EXAMPLE}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="the network, see below")
    parser.add_argument("--ratio", type=float, required=True, help="fraction to keep, above 0 and below 1")
    parser.add_argument(
        "--ratio-of",
        choices=("params", "macs", "units", "latency"),
        default="params",
        help="quantity that the ratio refers to: parameters (default), multiply-accumulates of one forward, prunable "
        "units, or milliseconds of one forward",
    )
    parser.add_argument(
        "--criterion",
        choices=("magnitude", "random"),
        default="magnitude",
        help="score by which units are removed: norm of their weights (default), or a random number",
    )
    parser.add_argument(
        "--input",
        type=_shape,
        metavar="1,3,224,224",
        help="shape of the first argument of the forward; by default that of timm's configuration, else 1,3,224,224",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="state dict of MODEL: .safetensors, .pt or .pth",
    )
    parser.add_argument(
        "--protect",
        action="append",
        default=[],
        metavar="NAME",
        help="group that is not pruned, e.g. 'layer1.*'; may be repeated",
    )
    parser.add_argument(
        "--round-to",
        type=_multiple,
        default=1,
        metavar="N",
        help="kept units become multiples of N; auto measures which multiple is fast for each group",
    )
    parser.add_argument(
        "--floor", type=float, default=0.1, help="smallest share of units of a group, relative to a uniform cut (0.1)"
    )
    parser.add_argument("--device", default="cpu", help="torch device on which times are measured (cpu)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the child; by default pruned/MODEL_RATIO")
    return parser.parse_args(arguments)


def _multiple(text: str) -> int | str:
    """Returns the number of "8", and "auto" as it is."""
    if text != "auto" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} must be a number such as 8, or auto")
    return text if text == "auto" else int(text)


def _shape(text: str) -> tuple[int, ...]:
    """Returns the sizes of "1,3,224,224"."""
    try:
        sizes = tuple(int(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be sizes such as 1,3,224,224")
    return sizes
