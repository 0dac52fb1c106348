"""Presence of the target: the calibration of a tracker's evidence, and the state that is reported."""

import math
from dataclasses import dataclass

from trackers.errors import TrackerError

STATES = LOST, UNCERTAIN, TRACKED = "lost", "uncertain", "tracked"


@dataclass(frozen=True)
class Presence:
    """Calibration of a tracker's evidence, the same definition for all trackers.

    The evidence of a frame is a number that rises with the presence of the target: the peak of the score map (OSTrack),
    the odds of the class head or the certainty of the corner maps (STARK), or the highest score of the classifier
    (DiMP). The presence is the probability that the box shows the target, if boxes do so in half of all
    frames: `1 / (1 + (half / evidence) ** slope)`, a logistic function of the logarithm of the evidence (Platt, 1999).

    Attributes:
        half: evidence at which the presence is one half, above 0.
        slope: rate at which the odds rise with the evidence, above 0: they are `(evidence / half) ** slope`.
        tracked: presence from which on the state is "tracked".
        lost: presence below which the state is "lost"; between the two it is "uncertain".

    Raises:
        TrackerError: `half` or `slope` is not positive, or the thresholds are not 0 <= lost <= tracked <= 1.
    """

    half: float
    slope: float
    tracked: float
    lost: float

    def __post_init__(self) -> None:
        for name in ("half", "slope"):
            if not 0 < getattr(self, name) < math.inf:
                raise TrackerError(
                    f"tracker.online.presence.{name}={getattr(self, name)} must be above 0; benchmarks/presence.py "
                    "fits it"
                )
        if not 0 <= self.lost <= self.tracked <= 1:
            raise TrackerError(
                f"tracker.online.presence.lost={self.lost} and tracked={self.tracked} must satisfy "
                "0 <= lost <= tracked <= 1; try lost=0.1 and tracked=0.7"
            )

    def probability(self, evidence: float) -> float:
        """Returns the presence in [0, 1] for the evidence of a frame; 0 for evidence that is not above 0."""
        if evidence <= 0:
            return 0.0
        log_odds = self.slope * (math.log(evidence) - math.log(self.half))  # a quotient could underflow to 0
        small = math.exp(-abs(log_odds))  # the exponential of a negative number cannot overflow
        return (1 if log_odds >= 0 else small) / (1 + small)

    def state(self, presence: float) -> str:
        """Returns "tracked", "uncertain" or "lost" for a presence."""
        return TRACKED if presence >= self.tracked else LOST if presence < self.lost else UNCERTAIN


# For trackers whose evidence nobody has fitted: half of the evidence that is common when the target is there.
UNCALIBRATED = Presence(half=0.4, slope=4.0, tracked=0.8, lost=0.1)
