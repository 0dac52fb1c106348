"""Frames with the boxes of trackers: in reports, on sheets and in videos."""
