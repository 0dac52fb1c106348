"""Pruning for any network that declares its groups: gates, criteria, budgets, surgery. It knows no tracker."""
