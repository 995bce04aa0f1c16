import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from tests.support.many_classes import EXCLUSIVE, ORDERED

from hardmil.config.evaluation import CalibrationMethod
from hardmil.config.task import TaskConfig
from hardmil.errors import BagError, ConfigError
from hardmil.mil.class_calibration import ClassCalibration, fit_class_calibration


def overconfident(
    n: int, *, times: float, bias: tuple[float, ...] = (0, 0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn by true chances, and scores whose logits are so many times too far apart, and shifted."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (n, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits, axis=1)])
    return labels, softmax((logits - np.array(bias)) * times, axis=1)


def ordered(n: int, *, times: float) -> tuple[np.ndarray, np.ndarray]:
    """As `overconfident`, of ordered classes: cumulative logits around two cuts."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, n)[:, None] - np.array([-1.0, 1.0])
    labels = (rng.random(n)[:, None] < 1 / (1 + np.exp(-logits))).sum(axis=1)
    or_higher = np.pad(1 / (1 + np.exp(-times * logits)), ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    return labels, -np.diff(or_higher, axis=1)


def log_loss(labels: np.ndarray, chances: np.ndarray) -> float:
    return float(-np.mean(np.log(chances[np.arange(len(labels)), labels])))


@pytest.mark.parametrize("times", [0.5, 1.0, 4.0])
def test_temperature_undoes_what_was_done_to_the_logits(times: float):
    fitted = fit_class_calibration(*overconfident(4000, times=times), method="temperature", task=EXCLUSIVE)
    np.testing.assert_allclose(fitted.weights, 1 / times, rtol=0.08)
    assert fitted.biases == (0, 0, 0)


@pytest.mark.parametrize("times", [0.5, 4.0])
def test_ordered_classes_have_one_temperature(times: float):
    labels, scores = ordered(4000, times=times)
    fitted = fit_class_calibration(labels, scores, method="temperature", task=ORDERED)
    np.testing.assert_allclose(fitted.weights, 1 / times, rtol=0.08)
    found = fitted.probabilities(scores)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert log_loss(labels, found) < log_loss(labels, scores)


def test_vector_scaling_finds_biases_as_well():
    labels, scores = overconfident(6000, times=2.0, bias=(0.8, 0.0, -0.4))
    fitted = fit_class_calibration(labels, scores, method="vector", task=EXCLUSIVE)
    np.testing.assert_allclose(fitted.weights, 0.5, rtol=0.1)
    np.testing.assert_allclose(
        np.array(fitted.biases) - np.mean(fitted.biases), [0.667, -0.133, -0.533], atol=0.1
    )


def test_the_fit_is_the_best_of_a_grid():
    labels, scores = overconfident(60, times=3.0)
    fitted = fit_class_calibration(labels, scores, method="temperature", task=EXCLUSIVE)
    counts = np.bincount(labels)
    targets = np.array([[(counts[c] * (k == c) + 1) / (counts[c] + 3) for k in range(3)] for c in labels])

    def loss(weight: float) -> float:
        return float(-np.mean(np.sum(targets * np.log(softmax(weight * np.log(scores), axis=1)), axis=1)))

    grid = np.geomspace(0.02, 20, 2000)
    assert fitted.weights[0] == pytest.approx(grid[np.argmin([loss(weight) for weight in grid])], rel=0.01)


def test_biases_are_fitted_where_scores_are_not_centred():
    labels, scores = overconfident(3000, times=1.0, bias=(0.8, 0.0, -0.4))
    plain = fit_class_calibration(labels, scores, method="temperature", task=EXCLUSIVE)
    shifted = fit_class_calibration(labels, scores, method="temperature", task=EXCLUSIVE, is_centred=False)
    assert len(set(shifted.weights)) == 1
    assert (
        log_loss(labels, shifted.probabilities(scores)) < log_loss(labels, plain.probabilities(scores)) - 0.01
    )
    of_order = fit_class_calibration(
        *ordered(500, times=1.0), method="temperature", task=ORDERED, is_centred=False
    )
    assert len(set(of_order.biases)) == 1


@pytest.mark.parametrize("task", [EXCLUSIVE, ORDERED])
def test_few_separable_bags_do_not_become_certain(task: TaskConfig):
    labels = np.arange(9) % 3
    scores = np.eye(3)[labels] * 0.7 + 0.1
    found = fit_class_calibration(labels, scores, method="temperature", task=task).probabilities(scores)
    assert (found.argmax(axis=1) == labels).all()
    assert 0.02 < found.min() < found.max() < 0.98


@given(st.floats(0.02, 20), st.lists(st.floats(0, 1), min_size=3, max_size=3), st.booleans())
def test_probabilities_are_chances(weight: float, parts: list[float], ordinal: bool):
    scores = np.array([parts]) + 1e-9
    n = 2 if ordinal else 3
    fitted = ClassCalibration(method="temperature", ordinal=ordinal, weights=(weight,) * n, biases=(0.5,) * n)
    found = fitted.probabilities(scores / scores.sum())
    assert (found >= -1e-12).all()
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("method", ["temperature", "vector", "none"])
def test_it_is_the_same_after_a_way_through_json(method: CalibrationMethod):
    labels, scores = overconfident(80, times=2.0)
    fitted = fit_class_calibration(labels, scores, method=method, task=EXCLUSIVE)
    back = ClassCalibration.model_validate_json(fitted.model_dump_json())
    assert back == fitted
    if method == "none":
        np.testing.assert_array_equal(back.probabilities(scores), scores)


def test_isotonic_is_refused_with_what_there_is():
    with pytest.raises(
        ConfigError, match="isotonic, which is not for 3 classes; expected none, temperature, vector"
    ):
        fit_class_calibration(*overconfident(20, times=1.0), method="isotonic", task=EXCLUSIVE)


def test_a_class_without_bags_is_an_error():
    labels, scores = overconfident(20, times=1.0)
    with pytest.raises(BagError, match="found none of b"):
        fit_class_calibration(np.minimum(labels, 1), scores, method="temperature", task=EXCLUSIVE)


@pytest.mark.parametrize("wrong", [{"weights": (1.0,)}, {}, {"weights": (-1.0,), "biases": (0.0,)}])
def test_a_damaged_calibration_is_refused(wrong: dict[str, tuple[float, ...]]):
    with pytest.raises(ValueError, match="weight"):
        ClassCalibration(method="temperature", **wrong)
