"""The command eval.py of the checkout, and lwt-eval of an installed wheel."""

import hydra
from omegaconf import DictConfig

from light_weight_trackers.installation import CONF, stop_at_foreign_packages

stop_at_foreign_packages()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="eval")
def main(cfg: DictConfig) -> None:
    """Evaluates one checkpoint."""
    from evaluation.required_keys import check_required

    check_required(cfg)
    from evaluation.commands import evaluate  # imports torch, which --help and --cfg can do without

    evaluate(cfg)


if __name__ == "__main__":
    main()
