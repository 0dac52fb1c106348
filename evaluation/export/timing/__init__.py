"""Timing and memory: forwards of networks, and whole frames. Calls take turns; see `pruning.cost.turns`."""
