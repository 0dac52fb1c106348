"""Metrics of the public toolkits, each with its protocol's name. They are computed for all sequences at once."""

from evaluation.tracking.metrics.got10k import GOT10k
from evaluation.tracking.metrics.one_pass import OnePass
from evaluation.tracking.metrics.protocol import Protocol, scores_of
from evaluation.tracking.metrics.sequence_scores import SequenceScores
from evaluation.tracking.metrics.speed import speed
from evaluation.tracking.metrics.track import Track
from evaluation.tracking.metrics.trackingnet import TrackingNet

__all__ = ["GOT10k", "OnePass", "Protocol", "SequenceScores", "Track", "TrackingNet", "scores_of", "speed"]
