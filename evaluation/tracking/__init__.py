"""Runs a tracker on the videos of a benchmark, and computes scores from its boxes."""
