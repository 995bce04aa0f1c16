"""How good bag scores are: the paper's six, FPR at a wanted sensitivity, ranking and calibration.

An undefined value is nan, never 0: a fold without a negative bag has no false-positive rate.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from hardmil.errors import BagError


@dataclass(frozen=True)
class BinaryMetrics:
    """The six columns of the paper's tables, each a share from 0 to 1, or nan where undefined."""

    accuracy: float
    precision: float
    recall: float
    f_score: float
    auc: float
    fpr: float


@dataclass(frozen=True)
class MeanSE:
    """Mean and standard error of the values that are defined, and how many are not."""

    mean: float
    se: float
    n_used: int
    n_left_out: int


def binary_metrics(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, threshold: float | int = 0.5
) -> BinaryMetrics:
    """The paper's six of bag scores; a bag is predicted positive if its score is above the threshold.

    Precision is nan if no bag is predicted positive, recall without a positive bag, FPR without a negative
    one, AUC unless both classes are there. F-score is 2 TP / (2 TP + FP + FN): 0 where every positive bag is
    missed, nan only where no bag is positive or predicted so.

    Raises:
        BagError: If a score is not finite, or a label neither 0 nor 1.
    """
    is_positive, checked = _checked(labels, scores=scores)
    predicted = checked > threshold
    true_positives = int(np.sum(predicted & is_positive))
    n_predicted, n_positive = int(np.sum(predicted)), int(np.sum(is_positive))
    return BinaryMetrics(
        accuracy=_share(int(np.sum(predicted == is_positive)), len(checked)),
        precision=_share(true_positives, n_predicted),
        recall=_share(true_positives, n_positive),
        f_score=_share(2 * true_positives, n_predicted + n_positive),
        auc=_auc(checked[is_positive], checked[~is_positive]),
        fpr=_share(int(np.sum(predicted & ~is_positive)), int(np.sum(~is_positive))),
    )


def threshold_at_sensitivity(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, sensitivity: float | int
) -> float:
    """The largest score that at least this share of the positive bags reach; nan without a positive bag.

    A bag *at* it counts as positive. Where positive means score > threshold, as in `binary_metrics`, use
    `predict_threshold_at_sensitivity`.

    Raises:
        BagError: If a score is not finite, or a label neither 0 nor 1.
        ValueError: If the sensitivity is not in (0, 1].
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"a sensitivity is above 0 and at most 1, not {sensitivity}")
    is_positive, checked = _checked(labels, scores=scores)
    positives = np.sort(checked[is_positive])[::-1]
    if len(positives) == 0:
        return math.nan
    # 0.55 * 100 is 55.00000000000001 in floating point: without the margin that would ask for 56 of 100.
    needed = math.ceil(sensitivity * len(positives) - 1e-9)
    return float(positives[max(needed, 1) - 1])


def predict_threshold_at_sensitivity(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, sensitivity: float | int
) -> float:
    """The largest t for which `score > t` keeps at least this share of the positive bags.

    One float64 step below `threshold_at_sensitivity`: compare float64 scores with it, as `binary_metrics`
    does; float32 would round it back up.

    Raises:
        BagError: If a score is not finite, or a label neither 0 nor 1.
        ValueError: If the sensitivity is not in (0, 1].
    """
    reached = threshold_at_sensitivity(labels, scores, sensitivity=sensitivity)
    return float(np.nextafter(reached, -np.inf))


def fpr_at_sensitivity(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, sensitivity: float | int
) -> float:
    """Share of the negative bags that score as high as `threshold_at_sensitivity`, or higher.

    A step of the ROC curve, not a point between two: with few bags an interpolated one is never met in use.

    Raises:
        BagError: If a score is not finite, or a label neither 0 nor 1.
        ValueError: If the sensitivity is not in (0, 1].
    """
    threshold = threshold_at_sensitivity(labels, scores, sensitivity=sensitivity)
    is_positive, checked = _checked(labels, scores=scores)
    negatives = checked[~is_positive]
    return math.nan if math.isnan(threshold) else _share(int(np.sum(negatives >= threshold)), len(negatives))


def balanced_accuracy(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, threshold: float | int = 0.5
) -> float:
    """Mean of sensitivity and specificity at `score > threshold`; nan unless both classes are there.

    Raises:
        BagError: If a score is not finite, or a label neither 0 nor 1.
    """
    found = binary_metrics(labels, scores, threshold=threshold)
    return (found.recall + 1 - found.fpr) / 2


def average_precision(labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"]) -> float:
    """Precision at each distinct score, weighted by the recall it adds; nan without a positive bag.

    A sum of steps, not of trapezia: scikit-learn's `average_precision_score`. Bags of equal score are taken
    together.

    Raises:
        BagError: If a score is not finite, or a label neither 0 nor 1.
    """
    is_positive, checked = _checked(labels, scores=scores)
    _, level = np.unique(-checked, return_inverse=True)
    hits = np.bincount(level, weights=is_positive)
    precision = np.cumsum(hits) / np.cumsum(np.bincount(level))
    return _share(float(np.sum(hits * precision)), int(np.sum(is_positive)))


def brier_score(labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"]) -> float:
    """Mean squared distance of the score from the label: 0 is best, 0.25 a coin; nan without a bag.

    Raises:
        BagError: If a score is no probability, or a label neither 0 nor 1.
    """
    is_positive, checked = _checked_probabilities(labels, scores=scores)
    return _share(float(np.sum((checked - is_positive) ** 2)), len(checked))


def expected_calibration_error(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, n_bins: int = 10
) -> float:
    """How far scores are from the share of positive bags among those of like score; nan without a bag.

    The scores are put into bins of equal width, [0, 0.1) to [0.9, 1]; over the bins that hold a bag, the
    distance of mean score and share of positive bags is averaged, weighted by their bags. With few bags it
    is above 0 for a perfect model too: compare it only between arms on the same slides.

    Raises:
        BagError: If a score is no probability, or a label neither 0 nor 1.

    Source: Naeini et al. 2015, for two classes: of the positive class's probability, not of the larger one.
    """
    is_positive, checked = _checked_probabilities(labels, scores=scores)
    # floor, as in numpy's histogram: a score of 1 belongs to the last bin.
    bins = np.minimum((checked * n_bins).astype(np.int64), n_bins - 1)
    surplus = np.bincount(bins, weights=checked - is_positive, minlength=n_bins)
    return _share(float(np.sum(np.abs(surplus))), len(checked))


def mean_and_se(values: Iterable[float]) -> MeanSE:
    """Mean and standard error (ddof = 1) over the values that are not nan; the others are counted.

    The mean is nan without a value, the standard error with fewer than two.
    """
    every = np.fromiter(values, dtype=np.float64)
    defined = every[~np.isnan(every)]
    n = len(defined)
    return MeanSE(
        mean=float(np.mean(defined)) if n else math.nan,
        se=float(np.std(defined, ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        n_used=n,
        n_left_out=len(every) - n,
    )


def _checked(
    labels: Int[np.ndarray, " bag"], *, scores: Float[np.ndarray, " bag"]
) -> tuple[np.ndarray, np.ndarray]:
    """Which bags are positive, and the scores as float64: thresholds compare in one precision."""
    broken = int(np.sum(~np.isfinite(scores)))
    if broken:
        raise BagError(
            f"bag scores: {broken} of {len(scores)} are not finite numbers; training diverged; "
            "lower training.lr"
        )
    others = sorted(set(labels.tolist()) - {0, 1})
    if others:
        raise BagError(f"labels: found {others}, expected 0 and 1 only; leave bags of unknown label out")
    return labels == 1, scores.astype(np.float64)


def _checked_probabilities(
    labels: Int[np.ndarray, " bag"], *, scores: Float[np.ndarray, " bag"]
) -> tuple[np.ndarray, np.ndarray]:
    is_positive, checked = _checked(labels, scores=scores)
    outside = checked[(checked < 0) | (checked > 1)]
    if len(outside):
        raise BagError(
            f"bag scores: found {outside[0]:g}, expected probabilities from 0 to 1; "
            "give scores after the sigmoid"
        )
    return is_positive, checked


def _share(part: float | int, whole: float | int) -> float:
    return float(part / whole) if whole else math.nan


def _auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Chance that a positive bag scores above a negative one, ties counting half (Mann-Whitney)."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    not_above = np.searchsorted(ordered, positives, side="right")
    return _share(float(np.sum(below + not_above)) / 2, len(positives) * len(negatives))
