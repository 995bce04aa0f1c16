import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.config.task import TaskConfig
from hardmil.mil.bag_score import BagScore
from hardmil.mil.class_scores import called_class, class_scores, mean_logits, with_classes

NAMES = ("normal", "a", "b", "c")
EXCLUSIVE, ORDERED = TaskConfig(names=NAMES), TaskConfig(names=NAMES, ordinal=True)
LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=4)


def _task(logits: list[float]) -> TaskConfig:
    """Four logits are those of four exclusive classes, three those of four ordered ones."""
    return EXCLUSIVE if len(logits) == 4 else ORDERED


def _branches(n: int) -> list[BagScore]:
    return [BagScore(0.0, np.array([0.5, 0.5]), np.array([float(k), -1.0]), bias=float(k)) for k in range(n)]


@given(LOGITS)
def test_scores_of_classes_are_probabilities(logits: list[float]):
    scores = class_scores(np.array(logits, np.float32), task=_task(logits))
    assert len(scores) == 4
    assert scores.min() >= 0
    assert scores.sum() == pytest.approx(1)


def test_scores_of_exclusive_classes_are_a_softmax():
    logits = np.log([0.1, 0.2, 0.3, 0.4]) + 3
    np.testing.assert_allclose(class_scores(logits, task=EXCLUSIVE), [0.1, 0.2, 0.3, 0.4])


def test_the_logit_of_the_negative_class_is_0():
    task = TaskConfig(names=("a", "normal", "b"), negative="normal")
    logits = np.log([3.0, 4.0])
    np.testing.assert_allclose(class_scores(logits, task=task), [3 / 8, 1 / 8, 4 / 8])
    found = with_classes(_branches(2), logits=logits, task=task)
    np.testing.assert_allclose([one.bag_score for one in found.branches], [3 / 7, 4 / 7])
    assert found.bias == 1
    alone = class_scores(logits, task=task)
    np.testing.assert_allclose(mean_logits([alone, alone], task=task), logits)
    normal = with_classes(_branches(2), logits=np.array([-1.0, -2.0]), task=task)
    assert called_class(class_scores(np.array([-1.0, -2.0]), task=task), task=task) == 1
    assert not any(one.bag_score > 0.5 for one in normal.branches)


def test_a_higher_class_is_at_most_as_likely_as_a_lower_one():
    logits = np.log([0.8 / 0.2, 0.3 / 0.7, 0.6 / 0.4])
    np.testing.assert_allclose(class_scores(logits, task=ORDERED), [0.2, 0.5, 0.0, 0.3])


@given(LOGITS)
def test_the_called_class_is_where_the_answers_of_the_branches_are_yes(logits: list[float]):
    task = _task(logits)
    found = with_classes(_branches(len(logits)), logits=np.array(logits), task=task)
    assert found.class_scores is not None
    called = called_class(found.class_scores, task=task)
    answers = [one.bag_score > 0.5 for one in found.branches]
    if task.ordinal:
        assert answers == [number < called for number in range(3)]
        assert found.bias == max(0, called - 1)
    else:
        first, second = sorted(logits, reverse=True)[:2]
        # Of equal logits, one is called, and none is above the others.
        assert sum(answers) == (first > second) or first - second < 1e-6
        assert not any(answers) or answers.index(True) == called or first - second < 1e-6
        assert found.bias == called
    assert found.bag_score == found.class_scores[called]


def test_a_branch_is_compared_with_the_strongest_other_class():
    found = with_classes(_branches(4), logits=np.array([2.0, 1.5, -1.0, 0.0]), task=EXCLUSIVE)
    margins = [0.5, -0.5, -3.0, -2.0]
    expected = [1 / (1 + np.exp(-margin)) for margin in margins]
    np.testing.assert_allclose([one.bag_score for one in found.branches], expected)


@given(LOGITS)
def test_the_mean_of_one_network_with_itself_is_that_network(logits: list[float]):
    task = _task(logits)
    alone = class_scores(np.array(logits), task=task)
    np.testing.assert_allclose(
        class_scores(mean_logits([alone, alone], task=task), task=task), alone, atol=1e-7
    )
