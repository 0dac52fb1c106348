"""Command line and configuration of the benchmarks."""

import argparse
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

CONF = Path(__file__).parents[1] / "conf"


def parser(description: str) -> argparse.ArgumentParser:
    """Returns the parser of a benchmark. Arguments that it does not know are overrides for `composed`."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [options] KEY=VALUE...",
    )


def composed(overrides: list[str]) -> DictConfig:
    """Returns conf/train.yaml, composed with the overrides."""
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        return compose("train", overrides)
