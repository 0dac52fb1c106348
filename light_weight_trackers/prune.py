"""The command prune.py of the checkout, and lwt-prune of an installed wheel."""

import hydra
from omegaconf import DictConfig

from light_weight_trackers.installation import CONF, stop_at_foreign_packages

stop_at_foreign_packages()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="prune")
def main(cfg: DictConfig) -> float | None:
    """Makes one child."""
    from evaluation.required_keys import check_required

    check_required(cfg)
    from evaluation.commands import run_job  # imports torch, which --help and --cfg can do without

    return run_job(cfg, trains_parent=False)


if __name__ == "__main__":
    main()
