"""Building blocks that several trackers share: attention, backbones and towers, each with its pruning groups."""
