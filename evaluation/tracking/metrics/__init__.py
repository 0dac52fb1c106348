"""Metrics, each named with its protocol: what the public toolkits compute, for all sequences at once."""

from evaluation.tracking.metrics.got10k import GOT10k
from evaluation.tracking.metrics.one_pass import OnePass
from evaluation.tracking.metrics.protocol import Protocol, Track, average_runs, scores_of
from evaluation.tracking.metrics.speed import speed
from evaluation.tracking.metrics.trackingnet import TrackingNet

__all__ = ["GOT10k", "OnePass", "Protocol", "Track", "TrackingNet", "average_runs", "scores_of", "speed"]
