"""Keys that a command cannot do without, checked before anything heavy is imported."""

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

# A value that starts so marks a key that an experiment requires: in YAML, ??? does not replace the default of the key.
REQUIRED = "required, e.g. "
EXAMPLES = {"checkpoint": "checkpoint=weights/ostrack_tiny.safetensors", "ratio": "ratio=0.25"}


def check_required(cfg: DictConfig) -> None:
    """Ends the command, or the job of a sweep alone, with one message if a required key has no value.

    Args:
        cfg: the composed configuration of a script.

    Raises:
        SystemExit: a value is missing.
        UserError: a value is missing in a job of a sweep; the other jobs go on.
    """
    examples = {key: _example(cfg, key) for key in EXAMPLES}
    if missing := [key for key, example in examples.items() if example]:
        calls = " ".join(examples[key] for key in missing)
        message = f"this command needs {' and '.join(missing)}; add e.g. {calls}"
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            from evaluation.errors import UserError  # imports torch, which a command that ends here can do without

            raise UserError(message)
        raise SystemExit(f"error: {message}")


def _example(cfg: DictConfig, key: str) -> str:
    """Returns an override that works if a required key has no value; "" if it has one."""
    if OmegaConf.is_missing(cfg, key):
        return EXAMPLES[key]
    value = str(cfg.get(key))
    return f"{key}={value.removeprefix(REQUIRED)}" if value.startswith(REQUIRED) else ""
