import numpy as np
from tests.support.many_classes import EXCLUSIVE, ORDERED, class_prediction_rows

from hardmil.evaluation.results import ArmKey
from hardmil.statistics.class_predictions import branches_of, pool_classes


def test_repeats_by_number_and_slides_in_one_order():
    rows = class_prediction_rows()
    (forward,) = pool_classes(rows, task=EXCLUSIVE).values()
    found = pool_classes(rows[::-1], task=EXCLUSIVE)
    assert list(found) == [ArmKey("ours", "case", "grid")]
    (backward,) = found.values()
    assert [one.repeat for one in backward] == [0, 1]
    for one, other in zip(forward, backward, strict=True):
        assert one.bags == other.bags
        np.testing.assert_array_equal(one.class_scores, other.class_scores)


def test_a_branch_is_a_question_with_its_scores_and_calls():
    (repeats,) = pool_classes(class_prediction_rows(task=ORDERED), task=ORDERED).values()
    branches = branches_of(repeats, task=ORDERED)
    assert list(branches) == ["low", "high"]
    whole, low = repeats[0], branches["low"][0]
    np.testing.assert_array_equal(low.labels, whole.labels >= 1)
    np.testing.assert_allclose(low.scores, whole.class_scores[:, 1:].sum(axis=1))
    np.testing.assert_array_equal(low.calls, whole.predicted >= 1)
    np.testing.assert_array_equal(low.called_at_op, low.scores > 0.3)


def test_exclusive_classes_are_called_by_the_highest_score():
    (repeats,) = pool_classes(class_prediction_rows(), task=EXCLUSIVE).values()
    calls = [one[0].calls for one in branches_of(repeats, task=EXCLUSIVE).values()]
    np.testing.assert_array_equal(np.sum(calls, axis=0), 1)
    assert any(
        (one[0].calls != (one[0].scores > 0.5)).any() for one in branches_of(repeats, task=EXCLUSIVE).values()
    )


def test_a_class_without_an_operating_point_has_no_calls_at_it():
    (repeats,) = pool_classes(class_prediction_rows(knows_op=False), task=EXCLUSIVE).values()
    normal, a, _ = (one[0].called_at_op for one in branches_of(repeats, task=EXCLUSIVE).values())
    assert normal is None
    assert a is not None
