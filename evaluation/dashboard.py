"""Logs a study on Weights & Biases whose sweep was interrupted, or saves a view of its runs.

python -m evaluation.dashboard outputs/studies/2026-01-31_12-00-00
python -m evaluation.dashboard outputs/studies/2026-01-31_12-00-00 --workspace  # a saved view of the group's runs
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from evaluation.report.study_results import read_results
from evaluation.report.wandb_study import LOGGER, log_study
from evaluation.report.workspace import save_workspace


def main(arguments: Sequence[str] | None = None) -> None:
    """Logs the study whose folder is named on the command line, or saves a view of its runs."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m evaluation.dashboard", description=__doc__, formatter_class=form)
    parser.add_argument("study", type=Path, help="the study's folder")
    parser.add_argument("--workspace", action="store_true", help="save a view of its runs; this needs an account")
    options = parser.parse_args(arguments)
    folder = options.study.absolute()
    logger = _logger(folder)
    if options.workspace:
        save_workspace(read_results(folder), logger.project, logger.entity, group=folder.name)
    else:
        log_study(folder, logger.project, logger.entity)


def _logger(folder: Path) -> DictConfig:
    """The logger that the jobs of a study had."""
    config = next(folder.glob("*/config.yaml"), None)
    if config is None:
        raise SystemExit(f"error: no finished job in {folder}; name a folder of outputs/studies/")
    logger = OmegaConf.load(config).logger
    if logger._target_ != LOGGER:
        raise SystemExit(f"error: the jobs in {folder} did not log to W&B; run the sweep with logger=wandb")
    return logger


if __name__ == "__main__":
    main()
