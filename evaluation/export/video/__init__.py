"""Follows objects through a stream of frames, and writes what trackers find."""
