"""The metrics of one repeat under many weightings of its bags at once: the inner loop of the bootstrap.

A bag of weight 2 counts as two bags with the same label and score; a bag of weight 0 does not count. Values
are those of `metrics.py` on rows duplicated in this way; tests check this.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from hardmil.statistics.pooled_predictions import PooledRepeat
from hardmil.statistics.summary import SENSITIVITIES

RESAMPLED = (
    "pooled_accuracy",
    "pooled_recall",
    "pooled_auc",
    "pooled_fpr",
    "balanced_accuracy",
    "average_precision",
    "brier",
    *SENSITIVITIES,
    "fpr_op",
    "sens_op",
)
"""Metrics with an interval, in the order of the rows of `weighted_metrics`."""

Weights = Int[np.ndarray, "weighting bag"]
Values = Float[np.ndarray, " weighting"]


def weighted_metrics(repeat: PooledRepeat, *, weights: Weights) -> Float[np.ndarray, "metric weighting"]:
    """Each metric of RESAMPLED under each weighting; NaN where undefined."""
    positive = repeat.labels == 1
    # Counts are integers, which float64 adds exactly, and matrix products are fast with floats.
    weights = weights.astype(np.float64)
    n_positive, n_negative = weights @ positive, weights @ ~positive
    called = repeat.calls
    recall, fpr = _called(weights, called, positive=positive)
    distance = (repeat.scores - positive) ** 2
    found = {
        "pooled_accuracy": _share(weights @ (called == positive), n_positive + n_negative),
        "pooled_recall": recall,
        "pooled_fpr": fpr,
        "balanced_accuracy": (recall + 1 - fpr) / 2,
        "brier": _share(weights @ distance, n_positive + n_negative),
        **_ranking(weights, repeat.scores, positive=positive),
    }
    if repeat.called_at_op is None:
        found["sens_op"] = found["fpr_op"] = np.full(len(weights), np.nan)
    else:
        found["sens_op"], found["fpr_op"] = _called(weights, repeat.called_at_op, positive=positive)
    return np.stack([found[name] for name in RESAMPLED])


def _called(
    weights: Float[np.ndarray, "weighting bag"],
    called: Bool[np.ndarray, " bag"],
    *,
    positive: Bool[np.ndarray, " bag"],
) -> tuple[Values, Values]:
    """Sensitivity and false-positive rate of positive calls."""
    return (
        _share(weights @ (called & positive), weights @ positive),
        _share(weights @ (called & ~positive), weights @ ~positive),
    )


def _ranking(
    weights: Float[np.ndarray, "weighting bag"],
    scores: Float[np.ndarray, " bag"],
    *,
    positive: Bool[np.ndarray, " bag"],
) -> dict[str, Values]:
    """AUC, average precision and FPR at each sensitivity, from counts at and above each distinct score."""
    at_positive, at_negative = counts_at(weights, scores, positive=positive)
    positives, negatives = np.cumsum(at_positive, axis=1), np.cumsum(at_negative, axis=1)
    n_positive, n_negative = positives[:, -1], negatives[:, -1]
    below = n_negative[:, None] - negatives + at_negative / 2
    precision = _share(positives, positives + negatives, undefined=0.0)
    found = {
        "pooled_auc": _share(np.sum(at_positive * below, axis=1), n_positive * n_negative),
        "average_precision": _share(np.sum(at_positive * precision, axis=1), n_positive),
    }
    for name, sensitivity in SENSITIVITIES.items():
        needed = np.maximum(np.ceil(sensitivity * n_positive - 1e-9), 1)
        # The first score from the top with enough positive bags at or above it; 0 if there is none.
        position = np.argmax(positives >= needed[:, None], axis=1)
        fpr = _share(np.take_along_axis(negatives, position[:, None], axis=1)[:, 0], n_negative)
        found[name] = np.where(n_positive > 0, fpr, np.nan)
    return found


def counts_at(
    weights: Float[np.ndarray, "weighting bag"],
    scores: Float[np.ndarray, " bag"],
    *,
    positive: Bool[np.ndarray, " bag"],
) -> tuple[Float[np.ndarray, "weighting score"], Float[np.ndarray, "weighting score"]]:
    """Weight of the positive and of the negative bags at each distinct score, the highest score first."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    ordered, positive = weights[:, order], positive[order]
    if len(starts) == len(scores):
        return ordered * positive, ordered * ~positive
    return (
        np.add.reduceat(ordered * positive, starts, axis=1),
        np.add.reduceat(ordered * ~positive, starts, axis=1),
    )


def _share(part: np.ndarray, whole: np.ndarray, *, undefined: float = np.nan) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), undefined), where=whole > 0)
