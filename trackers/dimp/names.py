"""Rules that convert PyTracking's parameter names to names of this project. Other names are equal in both."""

import re

RENAMED = (
    (r"^feature_extractor\.", "backbone."),
    (r"^bb_regressor\.", "box_head."),
    (r"^classifier\.feature_extractor\.(\d+)\.weight$", "classifier.features.conv.weight"),
    (r"^classifier\.feature_extractor\.(\d+)\.", r"classifier.features.blocks.\1."),
    (r"^classifier\.filter_initializer\.filter_conv\.", "classifier.initialiser.conv."),
    (r"^classifier\.filter_optimizer\.label_map_predictor\.weight$", "classifier.optimiser.label"),
    (r"^classifier\.filter_optimizer\.target_mask_predictor\.0\.weight$", "classifier.optimiser.mask"),
    (r"^classifier\.filter_optimizer\.spatial_weight_predictor\.weight$", "classifier.optimiser.weight"),
    (r"^classifier\.filter_optimizer\.", "classifier.optimiser."),
)


def our_name(official: str) -> str:
    """Returns the name in this project of a parameter with an official name."""
    for pattern, ours in RENAMED:
        official = re.sub(pattern, ours, official)
    return official
