"""Budgets: which units a ratio keeps. Scores, a cost and a ratio become a plan; no module touches a network's weights.

`ranking` makes scores of groups comparable, and `fitting` removes units in this order until the cost fits. `rounding`
measures which multiples of units are fast, and `measured` makes the cost and the rules for a network. `expected_size`
tells before a training what a cut will keep.
"""

from pruning.budget.fitting import RemovalRules, check_ratio, fit_plan

__all__ = ["RemovalRules", "check_ratio", "fit_plan"]
