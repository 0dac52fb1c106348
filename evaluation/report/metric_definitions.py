"""The definitions of metrics, in words."""

from collections.abc import Iterable

METRICS = {
    "AO": "Average overlap: mean intersection over union of predicted and annotated box, "
    "over all frames with a visible object but each sequence\u2019s first.",
    "SR0.5": "Success rate: the share of frames whose overlap exceeds 0.5.",
    "SR0.75": "Success rate at 0.75: the share of frames whose overlap exceeds 0.75.",
    "AUC": "Area under the success curve: the success rate averaged over overlap thresholds from 0 to 1.",
    "P": "Precision: the share of frames whose centre lies within 20 pixels of the annotated one. TrackingNet\u2019s "
    "development kit takes the mean over thresholds from 0 to 50 pixels instead.",
    "OP50": "Overlap precision: the share of frames whose overlap exceeds 0.5, averaged over sequences.",
    "OP75": "Overlap precision at 0.75: the share of frames whose overlap exceeds 0.75, averaged over sequences.",
    "P_norm": "Precision with the centre distance in units of the annotated box: the share of frames within 0.2 of it. "
    "The got10k profile and TrackingNet\u2019s development kit take the mean over thresholds from 0 to 0.5 instead.",
    "coverage": "The share of frames with a predicted box.",
}


def definitions_of(metrics: Iterable[str]) -> list[tuple[str, str]]:
    """Returns the name and the definition of each metric that has one."""
    return [(name, METRICS[name]) for name in metrics if name in METRICS]
