"""Trackers, and the one call that gives any saved one back: `load_tracker(path)`."""

from trackers.checkpoint import load_checkpoint, load_tracker

__all__ = ["load_checkpoint", "load_tracker"]
