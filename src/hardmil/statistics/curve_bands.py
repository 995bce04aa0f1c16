"""ROC and precision-recall curves of an arm with bands by case, and the reliability of its scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from hardmil.bootstrap import SampleSize, draw_cases, moving_threshold_limits
from hardmil.metrics import brier_score, expected_calibration_error
from hardmil.statistics.intervals import cases_and_classes, mean_of_defined
from hardmil.statistics.pooled_predictions import PooledRepeat
from hardmil.statistics.weighted_metrics import counts_at

N_BAND_RESAMPLES = 300
"""Enough for a band in a figure; intervals in tables use 20,000."""

GRID = np.linspace(0, 1, 101)
"""Points of the curves: FPR of the ROC curve, recall of the precision-recall curve."""

N_BINS = 10


@dataclass(frozen=True, eq=False)
class Band:
    """A curve over GRID, mean over repeats, with pointwise 95% limits; NaN where undefined."""

    value: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"]
    high: Float[np.ndarray, " point"]


@dataclass(frozen=True, eq=False)
class ArmCurves:
    """The two curves of one arm."""

    roc: Band
    precision_recall: Band


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions in bins of equal width: mean score, share positive, and number in each.

    Bins are those of `expected_calibration_error`; empty bins have NaN. `ece` and `brier` are means over
    repeats.
    """

    mean_score: Float[np.ndarray, " bin"]
    share_positive: Float[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]
    ece: float
    brier: float


def arm_curves(
    repeats: Sequence[PooledRepeat], *, seed: int, n_resamples: int = N_BAND_RESAMPLES
) -> ArmCurves:
    """Curves of an arm, averaged over its repeats at each point of GRID, with bands by resampling cases.

    A resample draws cases as `resample_arms` does, with all predictions of a case in all repeats. Limits are
    those of `moving_threshold_limits` at each point, so that a perfect curve has a band too.

    Args:
        repeats: Predictions of one arm.
        seed: Seed of the draws: the same seed and slides give the same draws for every arm.
        n_resamples: Number of resamples.
    """
    cases, holds = cases_and_classes(repeats)
    draws = draw_cases(holds, seed=seed, n_resamples=n_resamples)
    position = {case: i for i, case in enumerate(cases)}
    # The first weighting has every case once: the curve itself.
    weights = np.vstack([np.ones((1, len(cases)), dtype=np.int64), draws])
    both = [
        _curves(repeat, weights=weights[:, [position[case] for case in repeat.cases]].astype(np.float64))
        for repeat in repeats
    ]
    roc, precision = (mean_of_defined(np.stack(one), axis=0) for one in zip(*both, strict=True))
    with_positive = int(holds[:, 1].sum())
    # A sensitivity is over the positive slides, a precision over those called positive.
    positive = np.full(len(GRID), with_positive)
    called = np.maximum(1, GRID * with_positive / precision[0])
    return ArmCurves(
        _band(roc, n_cases=len(cases), n_independent=positive),
        _band(precision, n_cases=len(cases), n_independent=called),
    )


def reliability(
    labels: Sequence[Int[np.ndarray, " bag"]], scores: Sequence[Float[np.ndarray, " bag"]]
) -> Reliability:
    """How well scores agree with the share of positive slides, over repeats.

    Raises:
        BagError: If a score is not a probability.
    """
    pairs = list(zip(labels, scores, strict=True))
    every, score = np.concatenate(list(labels)), np.concatenate(list(scores))
    bins = np.minimum((score * N_BINS).astype(np.int64), N_BINS - 1)
    count = np.bincount(bins, minlength=N_BINS)
    empty = np.full(N_BINS, np.nan)
    return Reliability(
        mean_score=np.divide(np.bincount(bins, score, N_BINS), count, out=empty.copy(), where=count > 0),
        share_positive=np.divide(np.bincount(bins, every, N_BINS), count, out=empty, where=count > 0),
        count=count,
        ece=float(np.mean([expected_calibration_error(*pair) for pair in pairs])),
        brier=float(np.mean([brier_score(*pair) for pair in pairs])),
    )


def _curves(
    repeat: PooledRepeat, *, weights: Float[np.ndarray, "weighting bag"]
) -> tuple[Float[np.ndarray, "weighting point"], Float[np.ndarray, "weighting point"]]:
    """Sensitivity at each FPR of GRID, and precision at each recall; step functions, not interpolated."""
    at_positive, at_negative = counts_at(weights, repeat.scores, positive=repeat.labels == 1)
    found = np.cumsum(at_positive, axis=1), np.cumsum(at_negative, axis=1)
    roc, precision = (np.full((len(weights), len(GRID)), np.nan) for _ in range(2))
    for row, (positives, negatives) in enumerate(zip(*found, strict=True)):
        if positives[-1] and negatives[-1]:
            # 0.07 is not exact in floating point: the margin keeps a step at its place.
            last = np.searchsorted(negatives / negatives[-1], GRID + 1e-9, side="right")
            roc[row] = np.concatenate([[0.0], positives / positives[-1]])[last]
            first = np.searchsorted(positives / positives[-1], np.maximum(GRID, 1e-6) - 1e-9)
            precision[row] = positives[first] / (positives[first] + negatives[first])
    return roc, precision


def _band(
    drawn: Float[np.ndarray, "weighting point"], *, n_cases: int, n_independent: Num[np.ndarray, " point"]
) -> Band:
    """A curve with its limits; `n_independent`: the number of cases that its value is over, at each point."""
    value = drawn[0]
    limits = np.full((len(GRID), 2), np.nan)
    for i in np.flatnonzero(~np.isnan(value)):
        size = SampleSize(n_cases, round(n_independent[i]), round(n_independent[i]))
        limits[i] = moving_threshold_limits(value[i], drawn[1:, i], size=size)
    return Band(value, limits[:, 0], limits[:, 1])
