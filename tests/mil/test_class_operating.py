import numpy as np
import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, drawn_class_scores

from hardmil.errors import BagError
from hardmil.mil.class_operating import set_class_operating_points
from hardmil.mil.operating import set_operating_point

LABELS = np.arange(30) % 3
CASES = [f"c{i // 2}" for i in range(30)]


def test_each_branch_has_the_operating_point_of_its_question():
    scores = drawn_class_scores(LABELS)
    found = set_class_operating_points(
        LABELS, scores, task=EXCLUSIVE, cases=CASES, target="sensitivity=0.8", seed=3
    )
    for k, one in enumerate(found):
        labels = (k == LABELS).astype(np.int64)
        alone = set_operating_point(labels, scores[:, k], cases=CASES, target="sensitivity=0.8", seed=3)
        assert one == alone
    assert len(found) == 3


def test_ordered_classes_have_one_for_each_step():
    scores = drawn_class_scores(LABELS)
    low, high = set_class_operating_points(LABELS, scores, task=ORDERED, cases=CASES, target="fpr=0.1")
    assert (low.n_positive, high.n_positive) == (20, 10)
    assert low.threshold.value != high.threshold.value


def test_a_branch_without_positive_bags_is_an_error():
    labels = np.arange(30) % 2
    with pytest.raises(BagError, match="needs bags of both labels"):
        set_class_operating_points(
            labels, drawn_class_scores(labels), task=EXCLUSIVE, cases=CASES, target="youden"
        )
