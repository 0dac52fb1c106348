"""Trains, prunes, fine-tunes and scores trackers.

python train.py                                                # a tiny OSTrack on synthetic video, dense
python train.py ratio=0.25                                     # also its child with a quarter of the parameters
python train.py -m tracker=ostrack,stark,dimp ratio=1,0.5,0.25,0.1  # a study, with a table and a report
python train.py scale=full datamodule=got10k paths.data=/data trainer=gpu
python train.py experiment=icassp2023 tracker=ostrack ratio=0.1 checkpoint=OSTrack_ep0100.pth.tar paths.data=/data
python train.py experiment=demo logger=csv pruning=magnitude ratio=0.5
python train.py --cfg job                                      # prints the configuration and runs nothing
"""

from omegaconf import DictConfig

from evaluation.command_line.entry import command
from evaluation.processes.exit_message import with_exit_message


@with_exit_message
@command("train")
def main(cfg: DictConfig) -> float | None:
    """Runs one job."""
    from evaluation.commands.run_job import run_job  # imports torch, which --help and --cfg can do without

    return run_job(cfg)


if __name__ == "__main__":
    main()
