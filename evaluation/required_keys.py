"""Keys that a command cannot do without, checked before anything heavy is imported."""

from omegaconf import DictConfig, OmegaConf

EXAMPLES = {"checkpoint": "checkpoint=weights/ostrack_tiny.safetensors", "ratio": "ratio=0.25"}


def check_required(cfg: DictConfig) -> None:
    """Ends the command with one message if the command line gives no value for a required key.

    Args:
        cfg: the composed configuration of a script.

    Raises:
        SystemExit: a value is missing.
    """
    missing = [key for key in EXAMPLES if OmegaConf.is_missing(cfg, key)]
    if missing:
        examples = " ".join(EXAMPLES[key] for key in missing)
        raise SystemExit(f"error: this command needs {' and '.join(missing)}; add e.g. {examples}")
