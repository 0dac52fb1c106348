"""The published recipes, as `conf/tracker/` holds them: what an official checkpoint does not say."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

CONF = Path(__file__).parents[1] / "conf" / "tracker"


def published_recipe(name: str, *scales: str) -> dict[str, Any]:
    """The `tracker` section of a configuration.

    Args:
        name: file in conf/tracker/.
        scales: files in conf/tracker/scale/, the later ones changing the earlier.
    """
    files = [CONF / f"{name}.yaml", *(CONF / "scale" / f"{scale}.yaml" for scale in scales)]
    merged = OmegaConf.merge({"tracker": {}}, *({"tracker": OmegaConf.load(file)} for file in files))
    recipe = OmegaConf.to_container(merged, resolve=True)["tracker"]
    recipe.pop("defaults", None)
    return recipe
