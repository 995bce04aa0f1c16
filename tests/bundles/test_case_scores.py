import numpy as np
import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, WITH_NEGATIVE
from tests.support.many_labels import MULTI

from hardmil.bundles.case_scores import case_label, combined_score
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.mil.bag_score import BagScore


def _scores(*rows: list[float]) -> list[BagScore]:
    nothing = np.zeros(0, np.float32)
    return [BagScore(max(row), nothing, nothing, class_scores=np.array(row)) for row in rows]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (WITH_NEGATIVE, [0.1, 0.5, 0.4]),  # least normal
        (EXCLUSIVE, [0.8, 0.1, 0.1]),  # most certain
        (ORDERED, [0.1, 0.3, 0.6]),  # 0.9 for low or higher, 0.6 for high
    ],
    ids=["negative", "exclusive", "ordered"],
)
def test_the_highest_of_a_case_depends_on_its_classes(task: TaskConfig, expected: list[float]):
    slides = _scores([0.8, 0.1, 0.1], [0.1, 0.5, 0.4], [0.3, 0.1, 0.6])
    found = combined_score(slides, how="max", task=task)
    assert found.class_scores is not None
    np.testing.assert_allclose(found.class_scores, expected)
    assert found.bag_score == pytest.approx(max(expected))


def test_the_mean_is_by_class():
    found = combined_score(_scores([0.8, 0.2, 0.0], [0.2, 0.4, 0.4]), how="mean", task=EXCLUSIVE)
    assert found.class_scores is not None
    np.testing.assert_allclose(found.class_scores, [0.5, 0.3, 0.2])


def test_of_two_classes_the_score_itself_is_combined():
    nothing = np.zeros(0, np.float32)
    slides = [BagScore(value, nothing, nothing) for value in (0.2, 0.6)]
    assert combined_score(slides, how="max", task=TWO_CLASSES).bag_score == 0.6
    assert combined_score(slides, how="mean", task=TWO_CLASSES).bag_score == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        (TWO_CLASSES, [0, 1, -1], 1),
        (TWO_CLASSES, [0, -1], -1),
        (TWO_CLASSES, [0, 0], 0),
        (ORDERED, [0, 2, -1], 2),
        (ORDERED, [0, 1, -1], -1),
        (ORDERED, [0, 1], 1),
        (WITH_NEGATIVE, [0, 2], 2),
        (WITH_NEGATIVE, [0, 2, -1], 2),
        (WITH_NEGATIVE, [0, 0], 0),
        (WITH_NEGATIVE, [0, -1], -1),
        (WITH_NEGATIVE, [1, 2], -1),
        (EXCLUSIVE, [0, 2], -1),
        (EXCLUSIVE, [2, 2], 2),
        (EXCLUSIVE, [-1, -1], -1),
    ],
)
def test_label_of_a_case(task: TaskConfig, labels: list[int], expected: int):
    assert case_label(labels, task=task) == expected


def test_a_case_has_the_highest_score_of_each_class_and_each_class_of_any_slide():
    found = combined_score(_scores([0.8, 0.1, 0.1], [0.1, 0.5, 0.4]), how="max", task=MULTI)
    assert found.class_scores is not None
    assert found.class_scores.tolist() == [0.8, 0.5, 0.4]
    assert case_label([0b001, 0b100, 0], task=MULTI) == 0b101
    assert case_label([0, 0], task=MULTI) == 0
    assert case_label([0b001, -1], task=MULTI) == -1, "the unlabelled slide may have more"
    assert case_label([0b011, 0b110, -1], task=MULTI) == 0b111
