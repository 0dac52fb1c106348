"""Published recipes from `conf/tracker/` for official checkpoints, which contain no recipe."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
# A checkout has the configuration beside the packages, a wheel in a package of its own.
CONF = next(c for c in (ROOT / "conf", ROOT / "light_weight_trackers" / "conf") if c.is_dir()) / "tracker"


def published_recipe(name: str, *scales: str) -> dict[str, Any]:
    """Returns the `tracker` section of the configuration for published weights, resolved.

    Args:
        name: name of a file in conf/tracker/, without .yaml.
        scales: names of files in conf/tracker/scale/, without .yaml. Later files override earlier files.
    """
    files = [CONF / f"{name}.yaml", *(CONF / "scale" / f"{scale}.yaml" for scale in scales)]
    merged = OmegaConf.merge({"tracker": {}}, *({"tracker": OmegaConf.load(file)} for file in files))
    config: Any = OmegaConf.to_container(merged, resolve=True)
    recipe = config["tracker"]
    recipe.pop("defaults", None)
    return recipe
