"""Writes checkpoints of a tracker and its children with random weights, for measurements of size and speed.

python benchmarks/children_files.py --folder /tmp/children tracker=ostrack scale=full
python eval.py action=profile "checkpoint=[/tmp/children/ostrack_1.safetensors,/tmp/children/ostrack_0.1.safetensors]"

The children are those of `children.py`. They track nothing. A DiMP that does not find its target refines no box and
learns nothing, which takes less time; with `tracker.online.thresholds={not_found: 0, distractor: 1, hard_negative: 1}`
it always does.
"""

from pathlib import Path
from typing import Any

from children import cut
from command import composed, parser
from omegaconf import OmegaConf
from rich.progress import track

from trackers.checkpoints.checkpoint import Checkpoint


def main() -> None:
    """Writes one file per ratio, and prints their names as a list for `checkpoint`."""
    options = parser(__doc__)
    options.add_argument("--ratios", default="1,0.25,0.1,0.01", help="fractions kept (default: %(default)s)")
    options.add_argument("--folder", type=Path, required=True, help="folder of the files")
    given, overrides = options.parse_known_args()
    cfg, files = composed(overrides), []
    for ratio in track([float(r) for r in given.ratios.split(",")], description="cutting"):
        tracker, plan, _ = cut(cfg, ratio)
        recipe: Any = OmegaConf.to_container(cfg.tracker, resolve=True)
        name = cfg.tracker._target_.rpartition(".")[2].lower()
        files.append(Checkpoint(tracker, recipe, plan).save(given.folder / f"{name}_{ratio:g}.safetensors"))
    print(f"checkpoint=[{','.join(map(str, files))}]")


if __name__ == "__main__":
    main()
