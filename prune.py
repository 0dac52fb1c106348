"""Makes a child of a parent: prunes it, fine-tunes the child and scores both.

python prune.py checkpoint=outputs/train/.../checkpoint.safetensors ratio=0.25
python prune.py -m checkpoint=parent.safetensors ratio=0.5,0.25,0.1 pruning=magnitude
python prune.py checkpoint=child.safetensors ratio=0.5         # a child of a child
python prune.py checkpoint=OSTrack_ep0300.pth.tar ratio=0.25 scale=full datamodule=got10k trainer=gpu paths.data=/data
"""

from omegaconf import DictConfig

from evaluation.command_line.entry import command
from evaluation.processes.exit_message import with_exit_message


@with_exit_message
@command("prune")
def main(cfg: DictConfig) -> float | None:
    """Makes one child."""
    from evaluation.commands.run_job import run_job  # imports torch, which --help and --cfg can do without

    return run_job(cfg, trains_parent=False)


if __name__ == "__main__":
    main()
