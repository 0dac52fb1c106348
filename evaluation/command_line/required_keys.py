"""Keys that a command cannot do without, checked before anything heavy is imported."""

from collections.abc import Mapping
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

# A value that starts so marks a key that an experiment requires: in YAML, ??? does not replace the default of the key.
REQUIRED = "required, e.g. "
EXAMPLES = {"checkpoint": "checkpoint=weights/ostrack_tiny.safetensors", "ratio": "ratio=0.25"}


def describe_missing_keys(cfg: DictConfig, script: str) -> str:
    """Returns words that name the required keys without a value and a call that works; "" if none is missing.

    Args:
        cfg: the composed configuration of a script.
        script: name of the script. A parent of train.py may start from no checkpoint.
    """
    return _describe({key: example for key in EXAMPLES if (example := _example(cfg, key, script))})


class RequiredKeys(Callback):
    """Ends a sweep before its first job if all jobs would lack a required key."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the keys that neither the command line nor the sweep sets. A sweep over experiments may set any key.

        Raises:
            SystemExit: a required key has no value.
        """
        swept = config.hydra.sweeper.get("params") or {}
        given = {override.lstrip("+").partition("=")[0] for override in config.hydra.overrides.task} | set(swept)
        missing = {k: e for k, e in EXAMPLES.items() if OmegaConf.is_missing(config, k) and k not in given}
        if missing and "experiment" not in given:
            raise SystemExit(f"error: {_describe(missing)}")


def _describe(missing: Mapping[str, str]) -> str:
    """Returns words about missing keys with an example for each; "" if there are none."""
    if not missing:
        return ""
    return f"this command needs {' and '.join(missing)}; add e.g. {' '.join(missing.values())}"


def _example(cfg: DictConfig, key: str, script: str) -> str:
    """Returns an override that works if a required key has no value; "" if it has one or the script lacks the key."""
    if OmegaConf.is_missing(cfg, key):
        return EXAMPLES[key]
    if key not in cfg or (cfg[key] is None and (key, script) == ("checkpoint", "train")):
        return ""
    if cfg[key] in (None, ""):
        return EXAMPLES[key]
    value = str(cfg[key])
    return f"{key}={value.removeprefix(REQUIRED)}" if value.startswith(REQUIRED) else ""
