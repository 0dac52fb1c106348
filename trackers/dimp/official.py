"""Official checkpoints of DiMP-18 and -50, PrDiMP-18 and -50, and SuperDiMP."""

from collections.abc import Mapping

from torch import Tensor

from trackers.contents import CheckpointContents
from trackers.dimp.names import our_name
from trackers.published import published_recipe

DEAD = ("feature_extractor.layer4.", "feature_extractor.fc.")  # never executed
TABLES = ("optimiser.label", "optimiser.mask", "optimiser.weight")  # stored as 1 x 1 convolutions
# By configuration, the files in conf/tracker/scale/ that make it.
SCALES = {
    "dimp": ("dimp_full",),
    "dimp18": ("dimp_full", "dimp50_full", "dimp18_full"),
    "dimp50": ("dimp_full", "dimp50_full"),
    "prdimp18": ("dimp_full", "prdimp50_full", "prdimp18_full"),
    "prdimp50": ("dimp_full", "prdimp50_full"),
}


def recognises(weights: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of one of them."""
    return {"classifier.filter_initializer.filter_conv.weight", "bb_regressor.iou_predictor.weight"} <= weights.keys()


def convert(weights: Mapping[str, Tensor], config_name: str | None) -> CheckpointContents:
    """The tracker in a state dict.

    Args:
        weights: of a dense network.
        config_name: what the file says of its training: the name of the settings, or of the actor. DiMP-50 and
            SuperDiMP have the same layers.
    """
    live, dead = {}, 0
    for name, w in weights.items():
        if name.startswith(DEAD):
            dead += w.numel() if w.is_floating_point() else 0
            continue
        ours = our_name(name)
        live[ours] = w.flatten() if ours.endswith(TABLES) else w
    which = _which(weights, config_name)
    recipe = published_recipe("dimp", *SCALES[which])
    recipe["compat"] = recipe["template"]["compat"] = recipe["search"]["compat"] = "reference"
    note = (
        f"{which} ({config_name or 'the file does not say how it was trained'}): {len(live)} weights. Left out: "
        f"{dead:,} numbers of layers that are never executed (layer4, fc). Taken for granted: the recipe; "
        "+tracker.KEY=VALUE changes it"
    )
    return CheckpointContents(live, recipe, note=note)


def _which(weights: Mapping[str, Tensor], config_name: str | None) -> str:
    """The configuration's name."""
    small = "feature_extractor.layer1.0.conv3.weight" not in weights
    if "classifier.filter_optimizer.label_map_predictor.weight" not in weights:
        return "prdimp18" if small else "prdimp50"
    if small:
        return "dimp18"
    return "dimp50" if config_name in ("dimp50", "DiMPActor") else "dimp"
