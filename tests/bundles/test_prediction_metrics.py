import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, roc_auc_score
from tests.support.many_classes import EXCLUSIVE, ORDERED, drawn_class_scores
from tests.support.many_labels import MULTI

from hardmil.bundles.prediction_metrics import metrics_by_class
from hardmil.mil.class_metrics import predicted_classes

LABELS = np.arange(60) % 3
SCORES = drawn_class_scores(LABELS)


def test_values_are_those_of_scikit_learn():
    found = metrics_by_class(LABELS, SCORES, task=EXCLUSIVE, thresholds=(0.5, 0.3, 0.4))
    called = SCORES.argmax(axis=1)
    assert found.accuracy == pytest.approx(accuracy_score(LABELS, called))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(LABELS, called))
    assert found.macro_auc == pytest.approx(roc_auc_score(LABELS, SCORES, multi_class="ovr"))
    one = found.of_classes["a"]
    assert one.threshold == 0.3
    assert one.sensitivity == pytest.approx(np.mean(SCORES[LABELS == 1, 1] > 0.3))
    assert one.fpr == pytest.approx(np.mean(SCORES[LABELS != 1, 1] > 0.3))
    assert sorted(found.overall) == ["accuracy", "balanced_accuracy", "macro_auc"]


def test_kappa_is_that_of_ordered_classes():
    found = metrics_by_class(LABELS, SCORES, task=ORDERED)
    called = predicted_classes(SCORES, task=ORDERED)
    assert found.kappa == pytest.approx(cohen_kappa_score(LABELS, called, weights="quadratic"))
    assert list(found.of_classes) == ["low", "high"]


def test_a_class_without_slides_has_no_auc():
    found = metrics_by_class(LABELS[LABELS < 2], SCORES[LABELS < 2], task=EXCLUSIVE)
    values = found.for_json()
    assert values["classes"]["b"]["auc"] is None
    assert values["macro_auc"] == pytest.approx(
        np.mean([found.of_classes[name].auc for name in ("normal", "a")])
    )


def test_the_accuracy_of_several_labels_is_of_whole_labels():
    labels = np.array([0b001, 0b011, 0b000, 0b100])
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.4, 0.1], [0.1, 0.2, 0.3], [0.7, 0.1, 0.9]])
    found = metrics_by_class(labels, scores, task=MULTI, thresholds=(0.5, 0.3, 0.5))
    assert found.accuracy == 0.5
    assert found.balanced_accuracy == pytest.approx((0.75 + 0.5 + 1) / 3)
    assert found.of_classes["b"].sensitivity == 1, "at its threshold"
    assert "kappa" not in found.overall
