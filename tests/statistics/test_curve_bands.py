"""Curves and bands against a plain loop over thresholds and drawn rows."""

import math
import time

import numpy as np
import pytest

from hardmil.bootstrap import SampleSize, moving_threshold_limits
from hardmil.metrics import expected_calibration_error
from hardmil.statistics.curve_bands import GRID, N_BINS, Band, arm_curves, reliability
from hardmil.statistics.pooled_predictions import PooledRepeat


def repeat(number: int, n: int = 40, n_cases: int = 15) -> PooledRepeat:
    rng = np.random.default_rng(number)
    case = rng.permutation(np.arange(n) % n_cases)
    labels = case % 2
    scores = np.round(np.clip(0.5 + 0.25 * (labels - 0.5) + rng.normal(0, 0.2, n), 0, 1), 1)
    bags = tuple((0, f"s{i}") for i in range(n))
    return PooledRepeat(number, bags, tuple(f"c{one}" for one in case), labels, scores, None)


def plain_roc(labels: np.ndarray, scores: np.ndarray) -> list[float]:
    found = []
    for fpr in GRID:
        reached = [0.0]
        for threshold in np.unique(scores):
            if np.mean(scores[labels == 0] >= threshold) <= fpr + 1e-9:
                reached.append(float(np.mean(scores[labels == 1] >= threshold)))
        found.append(max(reached))
    return found


def plain_precision(labels: np.ndarray, scores: np.ndarray) -> list[float]:
    found = []
    for recall in GRID:
        for threshold in np.unique(scores)[::-1]:
            share = np.mean(scores[labels == 1] >= threshold)
            if share > 0 and share >= recall - 1e-9:
                found.append(float(np.mean(labels[scores >= threshold])))
                break
    return found


def test_curves_are_the_mean_of_the_repeats_steps():
    repeats = [repeat(1), repeat(2)]
    found = arm_curves(repeats, seed=0, n_resamples=5)
    for curve, plain in ((found.roc, plain_roc), (found.precision_recall, plain_precision)):
        np.testing.assert_allclose(
            curve.value, np.mean([plain(one.labels, one.scores) for one in repeats], axis=0)
        )


def test_each_resample_is_the_curve_of_its_rows(monkeypatch: pytest.MonkeyPatch):
    from hardmil.statistics import curve_bands as curves

    drawn = np.array([[2, 0, 1] * 5])
    monkeypatch.setattr(curves, "draw_cases", lambda holds, seed, n_resamples: drawn)
    one = repeat(3)
    cases = sorted(set(one.cases))
    times = [drawn[0][cases.index(case)] for case in one.cases]
    labels, scores = np.repeat(one.labels, times), np.repeat(one.scores, times)
    found = arm_curves([one], seed=0, n_resamples=1)
    for curve, plain in ((found.roc, plain_roc), (found.precision_recall, plain_precision)):
        limits = [
            moving_threshold_limits(value, np.array([again]), size=SampleSize(len(cases), n, n))
            for value, again, n in zip(curve.value, plain(labels, scores), sizes(one, curve), strict=True)
        ]
        np.testing.assert_allclose(np.stack([curve.low, curve.high]).T, limits)


def sizes(one: PooledRepeat, curve: Band) -> list[int]:
    """Cases that a point of the ROC curve, or of the precision-recall curve, is over."""
    n_positive = len({case for case, label in zip(one.cases, one.labels, strict=True) if label})
    if curve.value[-1] == 1:
        return [n_positive] * len(GRID)
    return [max(1, round(at * n_positive / p)) for at, p in zip(GRID, curve.value, strict=True)]


def test_a_perfect_curve_has_a_band_that_shrinks_with_more_cases():
    low = []
    for n in (10, 40):
        labels = np.arange(n) % 2
        names = tuple(f"c{i}" for i in range(n))
        perfect = PooledRepeat(0, tuple((0, one) for one in names), names, labels, labels / 1.0, None)
        found = arm_curves([perfect], seed=0)
        assert (found.roc.value == 1).all()
        assert (found.roc.high == 1).all()
        low.append(float(found.roc.low[50]))
        # The first call alone says little about a precision.
        assert found.precision_recall.low[0] < found.precision_recall.low[100] < 1
    assert low[0] < low[1] < 1


def test_the_band_holds_the_curve_and_is_a_band():
    found = arm_curves([repeat(1), repeat(2)], seed=0)
    for curve in (found.roc, found.precision_recall):
        assert (curve.low <= curve.value).all()
        assert (curve.value <= curve.high).all()
        assert np.mean(curve.high - curve.low) > 0.05
    assert (np.diff(found.roc.value) >= 0).all()


def test_one_case_has_a_curve_and_no_band_and_one_class_has_no_curve():
    one = repeat(1)
    alone = PooledRepeat(0, one.bags, ("c",) * len(one.cases), one.labels, one.scores, None)
    found = arm_curves([alone], seed=0)
    assert np.isnan(found.roc.low).all()
    assert not np.isnan(found.roc.value).any()
    negative = PooledRepeat(0, one.bags, one.cases, np.zeros_like(one.labels), one.scores, None)
    assert np.isnan(arm_curves([negative], seed=0).roc.value).all()


def test_bands_of_a_large_study_take_seconds():
    started = time.perf_counter()
    for _ in range(8):
        arm_curves([repeat(i, 200, 150) for i in range(5)], seed=0)
    assert time.perf_counter() - started < 200


def test_reliability_counts_every_prediction_and_agrees_with_the_metric():
    ones = [repeat(1), repeat(2)]
    found = reliability([one.labels for one in ones], [one.scores for one in ones])
    assert found.count.sum() == 80
    assert len(found.count) == N_BINS
    inside = [s for one in ones for s in one.scores if 0.3 <= s < 0.4]
    assert found.count[3] == len(inside)
    assert found.ece == pytest.approx(np.mean([expected_calibration_error(o.labels, o.scores) for o in ones]))
    perfect = reliability([np.array([0, 1, 1])], [np.array([0.0, 1.0, 1.0])])
    assert (perfect.ece, perfect.brier, perfect.count[[0, 9]].tolist()) == (0, 0, [1, 2])
    assert math.isnan(perfect.share_positive[4])
