"""Logs a study to Weights & Biases after its sweep was interrupted, or saves a view of the runs of its jobs.

python -m evaluation.dashboard outputs/studies/2026-01-31_12-00-00
python -m evaluation.dashboard outputs/studies/2026-01-31_12-00-00 --workspace  # saves a view of the group's runs
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from evaluation.report.study_results import read_results
from evaluation.report.wandb_study import LOGGER, log_study
from evaluation.report.workspace import save_workspace


def main(arguments: Sequence[str] | None = None) -> None:
    """Logs the study that the command line names, or saves a view of its runs."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m evaluation.dashboard", description=__doc__, formatter_class=form)
    parser.add_argument("study", type=Path, help="folder of the study")
    parser.add_argument("--workspace", action="store_true", help="save a view of its runs (needs a W&B account)")
    options = parser.parse_args(arguments)
    folder = options.study.absolute()
    logger = _logger_settings(folder)
    if options.workspace:
        save_workspace(read_results(folder), logger.project, logger.entity, group=folder.name)
    else:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("evaluation").setLevel(logging.INFO)
        log_study(folder, logger.project, logger.entity)


def _logger_settings(folder: Path) -> DictConfig:
    """Returns the `logger` section of the configuration of the study's jobs."""
    config = next(folder.glob("*/config.yaml"), None)
    if config is None:
        raise SystemExit(f"error: no finished job in {folder}; name the folder of a study, e.g. outputs/studies/<time>")
    logger = OmegaConf.load(config).logger
    if logger._target_ != LOGGER:
        raise SystemExit(f"error: the jobs in {folder} did not log to W&B; run the sweep with logger=wandb")
    return logger


if __name__ == "__main__":
    main()
