"""Conversion of official checkpoints of DiMP-18 and -50, PrDiMP-18 and -50, and SuperDiMP."""

from collections.abc import Mapping

from torch import Tensor

from trackers.contents import CheckpointContents
from trackers.dimp.names import our_name
from trackers.published import published_recipe

DEAD = ("feature_extractor.layer4.", "feature_extractor.fc.")  # never executed
TABLES = ("optimiser.label", "optimiser.mask", "optimiser.weight")  # stored as 1 x 1 convolutions
# Files in conf/tracker/scale/ by configuration.
SCALES = {
    "dimp": ("dimp_full",),
    "dimp18": ("dimp_full", "dimp50_full", "dimp18_full"),
    "dimp50": ("dimp_full", "dimp50_full"),
    "prdimp18": ("dimp_full", "prdimp50_full", "prdimp18_full"),
    "prdimp50": ("dimp_full", "prdimp50_full"),
}


def recognises(weights: Mapping[str, Tensor]) -> bool:
    """Returns whether a state dict belongs to DiMP, PrDiMP or SuperDiMP."""
    return {"classifier.filter_initializer.filter_conv.weight", "bb_regressor.iou_predictor.weight"} <= weights.keys()


def convert(weights: Mapping[str, Tensor], config_name: str | None) -> CheckpointContents:
    """Returns the contents of a state dict with the parameter names of this project.

    Args:
        weights: state dict of a dense network.
        config_name: name of the training's settings or actor in the file. DiMP-50 and SuperDiMP have the same layers,
            so only this name tells which of them the file contains.
    """
    live, dead = {}, 0
    for official, w in weights.items():
        if official.startswith(DEAD):
            dead += w.numel() if w.is_floating_point() else 0
            continue
        ours = our_name(official)
        live[ours] = w.flatten() if ours.endswith(TABLES) else w
    name = _configuration(weights, config_name)
    recipe = published_recipe("dimp", *SCALES[name])
    recipe["compat"] = recipe["template"]["compat"] = recipe["search"]["compat"] = "reference"
    note = (
        f"{name} ({config_name or 'the file does not say how it was trained'}): {len(live)} weights. Left out: "
        f"{dead:,} numbers of layers that are never executed (layer4, fc). Assumed: the recipe; "
        "+tracker.KEY=VALUE changes it"
    )
    return CheckpointContents(live, recipe, note=note)


def _configuration(weights: Mapping[str, Tensor], config_name: str | None) -> str:
    """Returns the name of the configuration, a key of `SCALES`."""
    small = "feature_extractor.layer1.0.conv3.weight" not in weights
    if "classifier.filter_optimizer.label_map_predictor.weight" not in weights:
        return "prdimp18" if small else "prdimp50"
    if small:
        return "dimp18"
    return "dimp50" if config_name in ("dimp50", "DiMPActor") else "dimp"
