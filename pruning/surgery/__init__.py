"""Surgery: cuts a network to the kept units of a plan. It changes modules and tensors, and runs no network.

`cutting` makes the cut. `layer_cuts` holds what the layers of torch allow, `multihead_attention` what a cut leaves of
torch's attention, and `tensor_places` the names of tied weights. `transaction` restores a network after an error.
"""

from pruning.surgery.cutting import compact, compacted

__all__ = ["compact", "compacted"]
