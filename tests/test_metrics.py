import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from hardmil.errors import BagError
from hardmil.metrics import (
    average_precision,
    balanced_accuracy,
    binary_metrics,
    brier_score,
    expected_calibration_error,
    fpr_at_sensitivity,
    mean_and_se,
    predict_threshold_at_sensitivity,
    threshold_at_sensitivity,
)

# Few distinct scores, so that ties are common.
BAGS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8).map(lambda k: k / 8)), min_size=1, max_size=30)
SENSITIVITY = st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0])


def _arrays(bags: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([label for label, _ in bags]), np.array([score for _, score in bags])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _plain_metrics(bags: list[tuple[int, float]], threshold: float) -> tuple[float, ...]:
    """The six by counting, one bag and one pair at a time."""
    tp = fp = tn = fn = 0
    for label, score in bags:
        if score > threshold:
            tp, fp = tp + label, fp + 1 - label
        else:
            fn, tn = fn + label, tn + 1 - label
    wins = pairs = 0.0
    for label, score in bags:
        for other_label, other in bags:
            if label == 1 and other_label == 0:
                pairs += 1
                wins += 1.0 if score > other else 0.5 if score == other else 0.0
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    f_score = _ratio(2 * tp, 2 * tp + fp + fn)
    return (tp + tn) / len(bags), precision, recall, f_score, _ratio(wins, pairs), _ratio(fp, fp + tn)


def _plain_threshold(bags: list[tuple[int, float]], sensitivity: float) -> float:
    """Every score tried in turn, from the top."""
    positives = [score for label, score in bags if label == 1]
    for candidate in sorted({score for _, score in bags}, reverse=True):
        reach = sum(score >= candidate for score in positives)
        if positives and reach >= sensitivity * len(positives) - 1e-9:
            return candidate
    return math.nan


@given(BAGS, st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]))
def test_six_metrics_are_those_of_a_plain_loop(bags: list[tuple[int, float]], threshold: float):
    labels, scores = _arrays(bags)
    found = dataclasses.astuple(binary_metrics(labels, scores, threshold=threshold))
    np.testing.assert_allclose(found, _plain_metrics(bags, threshold), rtol=1e-12)


@given(BAGS)
def test_auc_is_that_of_scikit_learn(bags: list[tuple[int, float]]):
    labels, scores = _arrays(bags)
    if len(set(labels.tolist())) == 2:
        assert binary_metrics(labels, scores).auc == pytest.approx(roc_auc_score(labels, scores))


@given(BAGS, SENSITIVITY)
def test_threshold_and_fpr_are_those_of_a_plain_loop(bags: list[tuple[int, float]], sensitivity: float):
    labels, scores = _arrays(bags)
    threshold = _plain_threshold(bags, sensitivity)
    negatives = [score for label, score in bags if label == 0]
    fpr = _ratio(sum(score >= threshold for score in negatives), len(negatives))
    if math.isnan(threshold):
        fpr = math.nan
    np.testing.assert_equal(threshold_at_sensitivity(labels, scores, sensitivity=sensitivity), threshold)
    np.testing.assert_equal(fpr_at_sensitivity(labels, scores, sensitivity=sensitivity), fpr)


@given(BAGS, SENSITIVITY)
def test_predict_threshold_gives_the_same_bags_with_a_strict_comparison(
    bags: list[tuple[int, float]], sensitivity: float
):
    labels, scores = _arrays(bags)
    if labels.any():
        threshold = predict_threshold_at_sensitivity(labels, scores, sensitivity=sensitivity)
        found = binary_metrics(labels, scores, threshold=threshold)
        assert found.recall >= sensitivity - 1e-9
        np.testing.assert_equal(found.fpr, fpr_at_sensitivity(labels, scores, sensitivity=sensitivity))


@given(BAGS, st.randoms())
def test_order_of_bags_does_not_matter(bags: list[tuple[int, float]], random: object):
    shuffled = sorted(bags, key=lambda _: random.random())  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_equal(
        dataclasses.astuple(binary_metrics(*_arrays(bags))),
        dataclasses.astuple(binary_metrics(*_arrays(shuffled))),
    )


@given(BAGS)
def test_fpr_at_sensitivity_and_auc_see_only_the_order_of_scores(bags: list[tuple[int, float]]):
    labels, scores = _arrays(bags)
    np.testing.assert_equal(
        fpr_at_sensitivity(labels, scores, sensitivity=0.9),
        fpr_at_sensitivity(labels, np.exp(3 * scores) - 7, sensitivity=0.9),
    )
    np.testing.assert_equal(binary_metrics(labels, scores).auc, binary_metrics(labels, scores**3).auc)


def test_a_score_at_the_threshold_is_negative():
    assert binary_metrics(np.array([1, 0]), np.array([0.5, 0.5])).recall == 0.0
    assert binary_metrics(np.array([1, 0]), np.array([0.5, 0.5])).fpr == 0.0


def test_a_worked_example():
    labels = np.array([1, 1, 1, 0, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.2, 0.85, 0.3, 0.1, 0.0])
    found = binary_metrics(labels, scores)
    assert found.accuracy == pytest.approx(5 / 7)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f_score == pytest.approx(2 / 3)
    assert found.auc == pytest.approx(9 / 12)
    assert found.fpr == pytest.approx(1 / 4)
    assert threshold_at_sensitivity(labels, scores, sensitivity=0.6) == 0.8
    assert fpr_at_sensitivity(labels, scores, sensitivity=0.6) == pytest.approx(1 / 4)
    assert fpr_at_sensitivity(labels, scores, sensitivity=0.95) == pytest.approx(2 / 4)


def test_undefined_values_are_nan_never_zero():
    only_positive = binary_metrics(np.array([1, 1]), np.array([0.9, 0.1]))
    assert math.isnan(only_positive.auc)
    assert math.isnan(only_positive.fpr)
    assert only_positive.recall == 0.5
    only_negative = binary_metrics(np.array([0, 0]), np.array([0.4, 0.1]))
    assert all(map(math.isnan, (only_negative.recall, only_negative.precision, only_negative.f_score)))
    assert only_negative.fpr == 0.0
    all_wrong = binary_metrics(np.array([1, 0]), np.array([0.1, 0.9]))
    assert (all_wrong.precision, all_wrong.recall, all_wrong.f_score) == (0.0, 0.0, 0.0)
    none_found = binary_metrics(np.array([1, 0]), np.array([0.1, 0.2]))
    assert math.isnan(none_found.precision)
    assert none_found.f_score == 0.0


def test_share_that_floating_point_overshoots():
    labels, scores = np.ones(100, dtype=np.int64), np.arange(100) / 100
    assert 0.55 * 100 > 55  # so a plain ceil would ask for 56
    assert threshold_at_sensitivity(labels, scores, sensitivity=0.55) == 0.45


def test_float32_scores_compare_in_float64():
    labels, scores = np.array([1, 0]), np.array([0.3, 0.1], dtype=np.float32)
    threshold = predict_threshold_at_sensitivity(labels, scores, sensitivity=1.0)
    assert binary_metrics(labels, scores, threshold=threshold).recall == 1.0


def test_invalid_input_is_refused():
    with pytest.raises(BagError, match=r"1 of 2 are not finite.*lower training\.lr"):
        binary_metrics(np.array([1, 0]), np.array([np.nan, 0.5]))
    with pytest.raises(ValueError, match=r"threshold is NaN; expected a number"):
        binary_metrics(np.array([1, 0]), np.array([0.1, 0.5]), threshold=np.nan)
    with pytest.raises(BagError, match=r"found \[-1\]; expected only 0 and 1"):
        binary_metrics(np.array([1, -1]), np.array([0.1, 0.5]))
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            threshold_at_sensitivity(np.array([1, 0]), np.array([0.1, 0.5]), sensitivity=share)


def test_mean_and_se_leaves_nan_out_and_counts_it():
    found = mean_and_se([0.2, math.nan, 0.4, 0.9])
    mean = (0.2 + 0.4 + 0.9) / 3
    variance = sum((value - mean) ** 2 for value in (0.2, 0.4, 0.9)) / 2
    assert (found.n_used, found.n_left_out) == (3, 1)
    assert (found.mean, found.se) == pytest.approx((mean, math.sqrt(variance / 3)))


def test_mean_and_se_of_too_few():
    np.testing.assert_equal(dataclasses.astuple(mean_and_se([])), (math.nan, math.nan, 0, 0))
    np.testing.assert_equal(dataclasses.astuple(mean_and_se([0.5, math.nan])), (0.5, math.nan, 1, 1))


@given(BAGS, st.sampled_from([0.0, 0.25, 0.3, 0.5]))
def test_balanced_accuracy_and_average_precision_are_those_of_scikit_learn(
    bags: list[tuple[int, float]], threshold: float
):
    labels, scores = _arrays(bags)
    if not labels.any():
        assert math.isnan(average_precision(labels, scores))
    else:
        expected = average_precision_score(labels, scores)
        assert average_precision(labels, scores) == pytest.approx(expected)
    found = balanced_accuracy(labels, scores, threshold=threshold)
    if len(set(labels.tolist())) == 2:
        assert found == pytest.approx(balanced_accuracy_score(labels, scores > threshold))
    else:
        assert math.isnan(found)


@given(BAGS)
def test_brier_score_and_calibration_error_are_those_of_a_plain_loop(bags: list[tuple[int, float]]):
    labels, scores = _arrays(bags)
    expected = sum((score - label) ** 2 for label, score in bags) / len(bags)
    assert brier_score(labels, scores) == pytest.approx(expected)
    error = 0.0
    for k in range(10):
        inside = [(y, p) for y, p in bags if k <= 10 * p < k + 1 or (k == 9 and p == 1)]
        if inside:
            mean_label = sum(y for y, _ in inside) / len(inside)
            mean_score = sum(p for _, p in inside) / len(inside)
            error += len(inside) / len(bags) * abs(mean_label - mean_score)
    assert expected_calibration_error(labels, scores) == pytest.approx(error)


def test_calibration_of_correct_and_of_overconfident_scores():
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    calibrated = np.array([0.75, 0.75, 0.75, 0.75, 0.25, 0.25, 0.25, 0.25])
    assert expected_calibration_error(labels, calibrated) == 0
    assert expected_calibration_error(labels, np.round(calibrated)) == pytest.approx(0.25)
    # With bins of width 1/2, 0.4 and 0.1 share one, and their errors, +0.4 and -0.9, cancel in part.
    two = (np.array([0, 1]), np.array([0.4, 0.1]))
    assert expected_calibration_error(*two, n_bins=2) == pytest.approx(0.25)
    assert expected_calibration_error(*two) == pytest.approx((0.4 + 0.9) / 2)
    # A score of 1 is in the last bin: its error of +1 and one of -0.05 cancel in part.
    last = (np.array([0, 1]), np.array([1.0, 0.95]))
    assert expected_calibration_error(*last) == pytest.approx((1 - 0.05) / 2)


def test_without_bags_calibration_is_undefined():
    none = (np.array([], dtype=np.int64), np.array([]))
    assert math.isnan(brier_score(*none))
    assert math.isnan(expected_calibration_error(*none))
    assert math.isnan(average_precision(*none))


def test_calibration_needs_probabilities():
    for measure in (brier_score, expected_calibration_error):
        with pytest.raises(BagError, match=r"found -0\.5; expected probabilities.*after the sigmoid"):
            measure(np.array([1, 0]), np.array([0.5, -0.5]))
