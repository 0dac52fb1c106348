"""Scores any parent or child on a benchmark, or packs its results for a benchmark's server.

python eval.py checkpoint=outputs/train/.../checkpoint.safetensors
python eval.py checkpoint=child.safetensors benchmark=lasot paths.data=/data device=cuda runner.lockstep=16
python eval.py checkpoint=OSTrack_ep0300.pth.tar benchmark=got10k runner.workers=2 runner.devices=[cuda:0,cuda:1]
python eval.py checkpoint=child.safetensors benchmark=got10k_test action=submit archive=child.zip paths.data=/data
python eval.py checkpoint=child.safetensors benchmark=got10k action=open_loop paths.data=/data
python eval.py -m checkpoint=parent.safetensors,child.safetensors benchmark=got10k,otb100 paths.data=/data

After an interruption, the same command continues where it stopped. Sequences with results in the cache are not tracked
again, except with force=true.
"""

import hydra
from omegaconf import DictConfig

from evaluation.processes.last_words import with_last_words
from evaluation.required_keys import check_required


@with_last_words
@hydra.main(version_base="1.3", config_path="conf", config_name="eval")
def main(cfg: DictConfig) -> None:
    """Evaluates one checkpoint."""
    check_required(cfg)
    from evaluation.evaluate import evaluate  # imports torch, which --help and --cfg can do without

    evaluate(cfg)


if __name__ == "__main__":
    main()
