"""Trains, prunes, fine-tunes and scores trackers.

python train.py                                                # a tiny OSTrack on synthetic video, dense
python train.py ratio=0.25                                     # also its child with a quarter of the parameters
python train.py -m tracker=ostrack,stark,dimp ratio=1,0.5,0.25,0.1  # a study, with a table and a report
python train.py scale=full datamodule=got10k paths.data=/data trainer=gpu
python train.py experiment=icassp2023 tracker=ostrack ratio=0.1 checkpoint=OSTrack_ep0100.pth.tar paths.data=/data
python train.py experiment=demo logger=csv pruning=magnitude ratio=0.5
python train.py --cfg job                                      # prints the configuration and runs nothing
"""

import hydra
from omegaconf import DictConfig

from evaluation.processes.last_words import with_last_words
from evaluation.required_keys import check_required


@with_last_words
@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Runs one job."""
    check_required(cfg)
    from evaluation.commands import run_job  # imports torch, which --help and --cfg can do without

    return run_job(cfg)


if __name__ == "__main__":
    main()
