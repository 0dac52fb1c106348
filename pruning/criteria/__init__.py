"""Criteria: scores of units, and penalties or learned gates that some criteria add to the training."""

from pruning.criteria.chipnet import ChipNet
from pruning.criteria.criterion import Criterion
from pruning.criteria.depth import Depth
from pruning.criteria.magnitude import Magnitude
from pruning.criteria.network_slimming import NetworkSlimming
from pruning.criteria.random import Random
from pruning.criteria.slim import Slim
from pruning.criteria.taylor import Fisher, Taylor

__all__ = ["ChipNet", "Criterion", "Depth", "Fisher", "Magnitude", "NetworkSlimming", "Random", "Slim", "Taylor"]
