"""Published recipes from `conf/tracker/`, for official checkpoints, whose files do not contain them."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

CONF = Path(__file__).parents[1] / "conf" / "tracker"


def published_recipe(name: str, *scales: str) -> dict[str, Any]:
    """Returns the `tracker` section of the configuration for published weights, resolved.

    Args:
        name: file in conf/tracker/.
        scales: files in conf/tracker/scale/; later ones override earlier ones.
    """
    files = [CONF / f"{name}.yaml", *(CONF / "scale" / f"{scale}.yaml" for scale in scales)]
    merged = OmegaConf.merge({"tracker": {}}, *({"tracker": OmegaConf.load(file)} for file in files))
    recipe = OmegaConf.to_container(merged, resolve=True)["tracker"]
    recipe.pop("defaults", None)
    return recipe
