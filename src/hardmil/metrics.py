"""Metrics of bag scores: the six of the paper, FPR at a given sensitivity, ranking and calibration.

An undefined value is nan, never 0: a fold without negative bags has no false-positive rate.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Int

from hardmil.errors import BagError


@dataclass(frozen=True)
class BinaryMetrics:
    """The six columns of the paper's tables, each from 0 to 1, or nan if undefined."""

    accuracy: float
    precision: float
    recall: float
    f_score: float
    auc: float
    fpr: float

    def for_json(self) -> dict[str, float | None]:
        """The values by name, None where undefined."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class MeanSE:
    """Mean and standard error of the defined values, and how many values were used and left out."""

    mean: float
    se: float
    n_used: int
    n_left_out: int


def binary_metrics(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, threshold: float | int = 0.5
) -> BinaryMetrics:
    """The six metrics of the paper; a bag is predicted positive if its score is above the threshold.

    Precision is nan if no bag is predicted positive, recall without positive bags, FPR without negative bags,
    AUC unless both classes are present. The F-score is 2 TP / (2 TP + FP + FN): 0 if every positive bag is
    missed, nan only if no bag is positive or predicted positive.

    Raises:
        BagError: If a score is not finite, or a label is neither 0 nor 1.
        ValueError: If the threshold is NaN.
    """
    if math.isnan(threshold):
        raise ValueError("threshold is NaN; expected a number; a threshold needs bags of both labels")
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
    """The highest score that at least this share of the positive bags reach; nan without positive bags.

    A bag with exactly this score counts as positive. Where positive means score > threshold, as in
    `binary_metrics`, use `predict_threshold_at_sensitivity`.

    Raises:
        BagError: If a score is not finite, or a label is neither 0 nor 1.
        ValueError: If the sensitivity is not in (0, 1].
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"sensitivity is {sensitivity}; expected a number above 0 and at most 1")
    is_positive, checked = _checked(labels, scores=scores)
    positives = np.sort(checked[is_positive])[::-1]
    if len(positives) == 0:
        return math.nan
    # 0.55 * 100 is 55.00000000000001 in floating point: without the margin, 56 of 100 would be needed.
    needed = math.ceil(sensitivity * len(positives) - 1e-9)
    return float(positives[max(needed, 1) - 1])


def predict_threshold_at_sensitivity(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, sensitivity: float | int
) -> float:
    """The highest t for which `score > t` holds for at least this share of the positive bags.

    It is one float64 step below `threshold_at_sensitivity`. Compare it with float64 scores, as
    `binary_metrics` does; float32 would round it back up.

    Raises:
        BagError: If a score is not finite, or a label is neither 0 nor 1.
        ValueError: If the sensitivity is not in (0, 1].
    """
    reached = threshold_at_sensitivity(labels, scores, sensitivity=sensitivity)
    return float(np.nextafter(reached, -np.inf))


def fpr_at_sensitivity(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, sensitivity: float | int
) -> float:
    """Share of the negative bags with a score of at least `threshold_at_sensitivity`.

    This is a step of the ROC curve, not interpolated: with few bags, no threshold reaches a point in between.

    Raises:
        BagError: If a score is not finite, or a label is neither 0 nor 1.
        ValueError: If the sensitivity is not in (0, 1].
    """
    threshold = threshold_at_sensitivity(labels, scores, sensitivity=sensitivity)
    is_positive, checked = _checked(labels, scores=scores)
    negatives = checked[~is_positive]
    return math.nan if math.isnan(threshold) else _share(int(np.sum(negatives >= threshold)), len(negatives))


def partial_auc(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, sensitivity: float = 0.8
) -> float:
    """AUC of the part of the curve above a sensitivity, from 0 to 1; nan unless both classes are present.

    It is the AUC of the lowest-scored positive bags, a share of 1 - sensitivity of them, at least one.

    Raises:
        BagError: If a score is not finite, or a label is neither 0 nor 1.
        ValueError: If the sensitivity is not in [0, 1).
    """
    if not 0 <= sensitivity < 1:
        raise ValueError(f"sensitivity is {sensitivity}; expected a number of at least 0 and below 1")
    is_positive, checked = _checked(labels, scores=scores)
    positives = np.sort(checked[is_positive])
    n_lowest = math.ceil((1 - sensitivity) * len(positives) - 1e-9)
    return _auc(positives[:n_lowest], checked[~is_positive])


def balanced_accuracy(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, threshold: float | int = 0.5
) -> float:
    """Mean of sensitivity and specificity at `score > threshold`; nan unless both classes are present.

    Raises:
        BagError: If a score is not finite, or a label is neither 0 nor 1.
    """
    found = binary_metrics(labels, scores, threshold=threshold)
    return (found.recall + 1 - found.fpr) / 2


def average_precision(labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"]) -> float:
    """Precision at each distinct score, weighted by the recall it adds; nan without positive bags.

    A sum of steps, not of trapezoids, as in scikit-learn's `average_precision_score`. Bags of equal score
    count as one step.

    Raises:
        BagError: If a score is not finite, or a label is neither 0 nor 1.
    """
    is_positive, checked = _checked(labels, scores=scores)
    _, level = np.unique(-checked, return_inverse=True)
    hits = np.bincount(level, weights=is_positive)
    precision = np.cumsum(hits) / np.cumsum(np.bincount(level))
    return _share(float(np.sum(hits * precision)), int(np.sum(is_positive)))


def brier_score(labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"]) -> float:
    """Mean squared difference of score and label: 0 is best, always 0.5 gives 0.25; nan without bags.

    Raises:
        BagError: If a score is not a probability, or a label is neither 0 nor 1.
    """
    is_positive, checked = _checked_probabilities(labels, scores=scores)
    return _share(float(np.sum((checked - is_positive) ** 2)), len(checked))


def expected_calibration_error(
    labels: Int[np.ndarray, " bag"], scores: Float[np.ndarray, " bag"], *, n_bins: int = 10
) -> float:
    """How far scores are from the share of positive bags among bags with similar scores; nan without bags.

    The scores are sorted into bins of equal width, [0, 0.1) to [0.9, 1]. The distance between mean score and
    share of positive bags is averaged over the bins, weighted by their number of bags. With few bags the
    result is above 0 even for a perfect model: compare it only between arms on the same slides.

    Raises:
        BagError: If a score is not a probability, or a label is neither 0 nor 1.

    Source: Naeini et al. 2015, for two classes: of the probability of the positive class, not of the larger
    probability.
    """
    is_positive, checked = _checked_probabilities(labels, scores=scores)
    # Rounded down, as in numpy's histogram; a score of 1 belongs to the last bin.
    bins = np.minimum((checked * n_bins).astype(np.int64), n_bins - 1)
    surplus = np.bincount(bins, weights=checked - is_positive, minlength=n_bins)
    return _share(float(np.sum(np.abs(surplus))), len(checked))


def mean_and_se(values: Iterable[float]) -> MeanSE:
    """Mean and standard error (ddof = 1) over the values that are not nan; the others are counted.

    The mean is nan without values, the standard error with fewer than two.
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


def check_scores(scores: Float[np.ndarray, " bag"]) -> None:
    """Check that every score is a number.

    Raises:
        BagError: If one is NaN or infinite.
    """
    broken = int(np.sum(~np.isfinite(scores)))
    if broken:
        raise BagError(
            f"bag scores: {broken} of {len(scores)} are not finite; expected numbers; training probably "
            "diverged: lower training.lr"
        )


def _checked(
    labels: Int[np.ndarray, " bag"], *, scores: Float[np.ndarray, " bag"]
) -> tuple[np.ndarray, np.ndarray]:
    """Which bags are positive, and the scores as float64, the precision of all thresholds."""
    check_scores(scores)
    others = sorted(set(labels.tolist()) - {0, 1})
    if others:
        raise BagError(f"labels: found {others}; expected only 0 and 1; leave out bags of unknown label")
    return labels == 1, scores.astype(np.float64)


def _checked_probabilities(
    labels: Int[np.ndarray, " bag"], *, scores: Float[np.ndarray, " bag"]
) -> tuple[np.ndarray, np.ndarray]:
    is_positive, checked = _checked(labels, scores=scores)
    outside = checked[(checked < 0) | (checked > 1)]
    if len(outside):
        raise BagError(
            f"bag scores: found {outside[0]:g}; expected probabilities from 0 to 1; "
            "give scores after the sigmoid"
        )
    return is_positive, checked


def _share(part: float | int, whole: float | int) -> float:
    return float(part / whole) if whole else math.nan


def _auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Probability that a positive bag scores above a negative one; ties count half (Mann-Whitney)."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    not_above = np.searchsorted(ordered, positives, side="right")
    return _share(float(np.sum(below + not_above)) / 2, len(positives) * len(negatives))
