"""Scores any parent or child on a benchmark.

python eval.py checkpoint=outputs/train/.../checkpoint.safetensors
python eval.py checkpoint=child.safetensors benchmark=got10k paths.data=/data device=cuda
python eval.py checkpoint=OSTrack_ep0300.pth.tar benchmark=got10k paths.data=/data device=cuda
python eval.py -m checkpoint=parent.safetensors,child.safetensors
"""

import hydra
from omegaconf import DictConfig

from evaluation.commands import score


@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def main(cfg: DictConfig) -> None:
    """One checkpoint."""
    score(cfg)


if __name__ == "__main__":
    main()
