import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from hardmil.errors import BagError
from hardmil.metrics import expected_calibration_error
from hardmil.mil.calibration import Calibration, fit_calibration


def overconfident(n: int, *, times: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn by true chances, and scores whose logits are so many times too far from 0."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    return labels, 1 / (1 + np.exp(-times * logits))


@pytest.mark.parametrize("times", [0.5, 1.0, 4.0])
def test_temperature_undoes_what_was_done_to_the_logits(times: float):
    labels, scores = overconfident(6000, times=times)
    fitted = fit_calibration(labels, scores, method="temperature")
    assert fitted.temperature == pytest.approx(times, rel=0.08)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_probabilities_of_new_bags_are_better_calibrated(method: str):
    labels, scores = overconfident(4000, times=4.0)
    fitted = fit_calibration(labels[:2000], scores[:2000], method=method)
    before = expected_calibration_error(labels[2000:], scores[2000:])
    after = expected_calibration_error(labels[2000:], fitted.probabilities(scores[2000:]))
    assert before > 0.12
    assert after < 0.04


def test_isotonic_is_scikit_learns():
    labels, scores = overconfident(300, times=3.0)
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, labels)
    ours = fit_calibration(labels, scores, method="isotonic")
    grid = np.linspace(0, 1, 101)
    np.testing.assert_allclose(ours.probabilities(grid), theirs.predict(grid), atol=1e-12)


def test_few_separable_bags_do_not_become_certain():
    labels, scores = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    found = fit_calibration(labels, scores, method="temperature").probabilities(scores)
    assert 0.02 < found.min() < found.max() < 0.98


@given(st.floats(0.05, 50), st.floats(0, 1), st.floats(0, 1))
def test_temperature_keeps_the_order(temperature: float, one: float, other: float):
    found = Calibration(method="temperature", temperature=temperature).probabilities(np.array([one, other]))
    assert ((found[0] - found[1]) * (one - other) >= 0) or one == other
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("method", ["temperature", "isotonic", "none"])
def test_it_is_the_same_after_a_way_through_json(method: str):
    labels, scores = overconfident(80, times=2.0)
    fitted = fit_calibration(labels, scores, method=method)
    read = Calibration.model_validate_json(fitted.model_dump_json())
    np.testing.assert_array_equal(read.probabilities(scores), fitted.probabilities(scores))
    if method == "none":
        np.testing.assert_array_equal(fitted.probabilities(scores), scores)


def test_one_label_alone_cannot_be_calibrated():
    with pytest.raises(BagError, match=r"a calibration needs bags of both labels; found \[0\]"):
        fit_calibration(np.array([0, 0]), np.array([0.2, 0.4]), method="temperature")


@pytest.mark.parametrize("method", ["none", "temperature", "isotonic"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_numbers_are_refused(method: str, value: float):
    with pytest.raises(BagError, match=r"bag scores: 1 of 3 are not finite; .*lower training\.lr"):
        fit_calibration(np.array([0, 1, 1]), np.array([0.2, value, 0.7]), method=method)


def test_scores_that_are_not_centred_get_a_shift():
    labels, scores = overconfident(6000, times=2.0)
    moved = np.log(scores) - np.log1p(-scores) + 3.0
    fitted = fit_calibration(labels, 1 / (1 + np.exp(-moved)), method="temperature", is_centred=False)
    assert fitted.shift == pytest.approx(3.0, abs=0.2)
    assert fitted.temperature == pytest.approx(2.0, rel=0.08)
    assert fit_calibration(labels, scores, method="temperature").shift == 0
    assert Calibration.model_validate_json('{"method": "temperature", "temperature": 2.0}').shift == 0


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1]])
def test_a_shift_stays_within_the_scores(labels: list[int]):
    scores = np.array([0.90, 0.91, 0.92, 0.95, 0.96, 0.97])
    fitted = fit_calibration(np.array(labels), scores, method="temperature", is_centred=False)
    logits = np.log(scores) - np.log1p(-scores)
    assert logits.min() <= fitted.shift <= logits.max()
    assert np.isfinite(fitted.probabilities(scores)).all()
