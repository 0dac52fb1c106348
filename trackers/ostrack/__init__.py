"""OSTrack."""

from trackers.ostrack.tracker import OSTrack

__all__ = ["OSTrack"]
