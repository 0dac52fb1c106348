"""Pruning for any network that declares its groups: gates, criteria, budgets, surgery. It knows no tracker."""

from pruning.groups import Group, Slice
from pruning.plan import Plan
from pruning.pruner import Pruner

__all__ = ["Group", "Plan", "Pruner", "Slice"]
