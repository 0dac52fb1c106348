"""Published recipes from `conf/tracker/` for official checkpoints, which contain no recipe."""

from typing import Any

from omegaconf import OmegaConf

from light_weight_trackers.installation import CONF

TRACKERS = CONF / "tracker"


def published_recipe(name: str, *scales: str) -> dict[str, Any]:
    """Returns the `tracker` section of the configuration for published weights, resolved.

    Args:
        name: name of a file in conf/tracker/, without .yaml.
        scales: names of files in conf/tracker/scale/, without .yaml. Later files override earlier files.
    """
    files = [TRACKERS / f"{name}.yaml", *(TRACKERS / "scale" / f"{scale}.yaml" for scale in scales)]
    merged = OmegaConf.merge({"tracker": {}}, *({"tracker": OmegaConf.load(file)} for file in files))
    recipe = OmegaConf.to_container(merged, resolve=True)["tracker"]
    recipe.pop("defaults", None)
    return recipe
