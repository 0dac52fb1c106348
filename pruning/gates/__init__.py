"""Gates: one scale and one mask value per unit. They change weights around a step, and leave every shape as it is.

`gates` has all gates of a network, and `gated_tensor` those of one tensor. `norms` and `kept_statistics` make norms
exact while units are only masked.
"""

from pruning.gates.gates import Gates

__all__ = ["Gates"]
