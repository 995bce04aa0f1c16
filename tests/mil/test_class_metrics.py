import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from tests.support.many_classes import EXCLUSIVE, ORDERED, WITH_NEGATIVE, drawn_class_scores

from hardmil.config.task import TaskConfig
from hardmil.mil.class_metrics import class_metrics, predicted_classes


def test_of_exclusive_classes_the_highest_score_is_predicted():
    scores = np.array([[0.4, 0.35, 0.25], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
    assert predicted_classes(scores, task=EXCLUSIVE).tolist() == [0, 2, 1]


def test_of_ordered_classes_the_median_is_predicted():
    scores = np.array([[0.4, 0.35, 0.25], [0.2, 0.29, 0.51], [0.6, 0.1, 0.3]])
    assert predicted_classes(scores, task=ORDERED).tolist() == [1, 2, 0]


def test_answers_of_branches():
    labels = np.array([0, 1, 2])
    assert EXCLUSIVE.answers(labels).tolist() == np.eye(3, dtype=bool).tolist()
    assert ORDERED.answers(labels).tolist() == [[False, False], [True, False], [True, True]]


def test_answers_are_those_of_the_task():
    last = TaskConfig(names=EXCLUSIVE.names, negative="b")
    for task in (EXCLUSIVE, ORDERED, WITH_NEGATIVE, last):
        found = task.answers(np.arange(3))
        for label in range(3):
            for branch in range(task.n_branches):
                assert found[label, branch] == task.is_yes(label, branch=branch)


def test_macro_metrics_are_scikit_learns():
    labels = np.arange(60) % 3
    scores = drawn_class_scores(labels)
    found, predicted = class_metrics(labels, scores, task=EXCLUSIVE), scores.argmax(axis=1)
    assert found.accuracy == pytest.approx(np.mean(predicted == labels))
    assert found.recall == pytest.approx(recall_score(labels, predicted, average="macro"))
    assert found.precision == pytest.approx(precision_score(labels, predicted, average="macro"))
    assert found.f_score == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found.auc == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))
    fpr = [np.mean(predicted[labels != k] == k) for k in range(3)]
    assert found.fpr == pytest.approx(np.mean(fpr))


def test_the_negative_class_is_not_measured_against_the_rest():
    """Calling a lesion normal is a miss of the lesion, and no false positive."""
    labels = np.arange(60) % 3
    scores = drawn_class_scores(labels)
    found, predicted = class_metrics(labels, scores, task=WITH_NEGATIVE), scores.argmax(axis=1)
    assert found.accuracy == pytest.approx(np.mean(predicted == labels))
    assert found.auc == pytest.approx(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in (1, 2)]))
    assert found.recall == pytest.approx(np.mean([np.mean(predicted[labels == k] == k) for k in (1, 2)]))
    assert found.fpr == pytest.approx(np.mean([np.mean(predicted[labels != k] == k) for k in (1, 2)]))


def test_ordered_metrics_are_means_over_the_steps():
    labels = np.arange(60) % 3
    scores = drawn_class_scores(labels)
    found = class_metrics(labels, scores, task=ORDERED)
    high = scores[:, 1:].sum(axis=1), scores[:, 2]
    expected = [roc_auc_score(labels > k, high[k]) for k in range(2)]
    assert found.auc == pytest.approx(np.mean(expected))
    assert found.recall == pytest.approx(np.mean([np.mean(high[k][labels > k] > 0.5) for k in range(2)]))


@pytest.mark.parametrize("task", [EXCLUSIVE, ORDERED])
def test_a_class_that_is_missing_is_left_out(task: TaskConfig):
    labels = np.arange(20) % 2
    found = class_metrics(labels, drawn_class_scores(labels), task=task)
    assert 0 <= found.auc <= 1
    assert math.isnan(class_metrics(np.zeros(4, int), drawn_class_scores(np.zeros(4, int)), task=task).auc)
