"""Timing and memory: calls that take turns, forwards of networks, and whole frames."""
