"""Metrics, each named with its protocol: what the public toolkits compute, for all sequences at once."""

from evaluation.metrics.got10k import GOT10k
from evaluation.metrics.one_pass import OnePass
from evaluation.metrics.results import read_result, speed
from evaluation.metrics.trackingnet import TrackingNet
from evaluation.metrics.tracks import Protocol, Track, average_runs

__all__ = ["GOT10k", "OnePass", "Protocol", "Track", "TrackingNet", "average_runs", "read_result", "speed"]
