"""Lists which ViTs of timm OSTrack takes, and why it refuses the others. The tables of docs/vits.md are its output.

python benchmarks/vits.py

Every ViT is built on the meta device with crops of 8 x 8 and 16 x 16 patches. Its pruning groups are checked, and a
forward runs on shapes alone. No weights are read.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import timm
import torch
from timm.layers import GluMlp, SwiGLU
from torch import nn

from pruning import check_groups
from trackers.errors import TrackerError
from trackers.ostrack.backbone import OneStreamViT
from trackers.ostrack.vits import MODULES

WORDS = ("xsmall", "tiny", "small", "medium", "mediumd", "base", "large", "huge", "giant", "gigantic", "giantopt")
WORDS += ("betwixt", "little", r"so\d\d\dm2?", r"\db")
SIZE = f"_({'|'.join(WORDS)})(?=_)"
PATCHES = (8, 14, 16, 32)


def main() -> None:
    """Tries all ViTs and prints both tables."""
    taken: dict[str, list[str]] = defaultdict(list)
    refused: dict[str, list[str]] = defaultdict(list)
    for name in (name for module in MODULES for name in timm.list_models(module=module)):
        try:
            taken[parts_of(built(name))].append(name)
        except TrackerError as error:
            refused[str(error).partition(" has ")[2].partition(": not supported")[0]].append(name)
    print(f"timm {timm.__version__}: {count(taken)} ViTs are taken, {count(refused)} are refused.\n")
    table("parts beyond those of a plain ViT", taken)
    table("part that is not supported", refused)


def built(name: str) -> OneStreamViT:
    """Returns a backbone on the meta device that has run once.

    Raises:
        TrackerError: OSTrack refuses the ViT.
    """
    patch = next((size for size in PATCHES if f"patch{size}" in name), 16)
    with torch.device("meta"):
        backbone = OneStreamViT(name, 8 * patch, 16 * patch).to("meta").eval()
    check_groups(backbone, backbone.groups())
    with torch.device("meta"), torch.no_grad():
        template = backbone.embed_template(torch.zeros(1, 3, 8 * patch, 8 * patch))
        features = backbone(template, torch.zeros(1, 3, 16 * patch, 16 * patch))
    if features.shape != (1, 256, backbone.width):
        raise RuntimeError(f"{name} returns features of shape {tuple(features.shape)}")
    return backbone


def parts_of(backbone: OneStreamViT) -> str:
    """Returns the names of the parts that a plain ViT does not have."""
    block = backbone.blocks[0]
    parts = {
        "register tokens": "reg_token" in backbone.form.tokens,
        "LayerScale": not isinstance(block.ls1, nn.Identity),
        "rotary positions": backbone.rotary is not None,
        "gated MLPs": isinstance(block.mlp, GluMlp | SwiGLU),
        "a norm in front of the blocks": not isinstance(backbone.norm_pre, nn.Identity),
        "no norm behind the blocks": isinstance(backbone.norm, nn.Identity),
    }
    return ", ".join(part for part, present in parts.items() if present) or "none"


def table(title: str, names: Mapping[str, Sequence[str]]) -> None:
    """Prints one row for each group of ViTs, with * for words of size and resolution in their names."""
    print(f"| {title} | number | names |\n|---|---|---|")
    for part, members in sorted(names.items(), key=lambda item: -len(item[1])):
        series = dict.fromkeys(re.sub(r"_\d{3}$", "_*", re.sub(SIZE, "_*", name)) for name in members)
        print(f"| {part} | {len(members)} | {', '.join(f'`{name}`' for name in series)} |")
    print()


def count(names: Mapping[str, Sequence[str]]) -> int:
    """Returns the number of all names."""
    return sum(map(len, names.values()))


if __name__ == "__main__":
    main()
