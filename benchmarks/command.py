"""What all benchmarks share: how they are called."""

import argparse
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

CONF = Path(__file__).parents[1] / "conf"


def parser(description: str) -> argparse.ArgumentParser:
    """Options of a benchmark; all else on its command line is for `composed`."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [options] KEY=VALUE...",
    )


def composed(overrides: list[str]) -> DictConfig:
    """conf/train.yaml with overrides."""
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        return compose("train", overrides)
