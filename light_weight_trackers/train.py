"""The command train.py of the checkout, and lwt-train of an installed wheel."""

import hydra
from omegaconf import DictConfig

from light_weight_trackers.installation import CONF, stop_at_foreign_packages

stop_at_foreign_packages()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Runs one job."""
    from evaluation.required_keys import check_required

    check_required(cfg)
    from evaluation.commands import run_job  # imports torch, which --help and --cfg can do without

    return run_job(cfg)


if __name__ == "__main__":
    main()
