"""Timing of networks, and adapters to other toolkits."""
