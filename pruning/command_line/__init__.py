"""The command `python -m pruning MODEL --ratio R`: prunes a network by name and saves the child."""
