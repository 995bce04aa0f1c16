import numpy as np
from tests.support.many_classes import ORDERED, WITH_NEGATIVE, class_bags, class_score

from hardmil.bundles.class_mining import mine_by_class
from hardmil.config.task import TaskConfig
from hardmil.mining.hard_instances import HardInstance

SCORES = ([0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.05, 0.15, 0.8])


def _mined(task: TaskConfig, thresholds: list[float]) -> list[HardInstance]:
    """Of a slide of each class; the first is called the second class, the second none of its own."""
    bags = class_bags(3)
    scores = [class_score(bag, list(values), task=task) for bag, values in zip(bags, SCORES, strict=True)]
    return mine_by_class(
        bags, scores=scores, task=task, thresholds=thresholds, n_sigma=1.0, source="out-of-fold"
    )


def test_a_slide_called_another_class_is_hard_for_this_class():
    found = _mined(WITH_NEGATIVE, [0.5, 0.5])
    assert {(one.slide_id, one.hard_for, one.source) for one in found} == {("s0", "a", "out-of-fold")}
    assert [one.instance for one in found] == [0], "the patch with the attention of that branch"
    assert found[0].bag_score == np.float64(0.8)


def test_each_class_has_its_threshold():
    found = _mined(WITH_NEGATIVE, [0.9, 0.05])
    assert sorted({(one.slide_id, one.hard_for) for one in found}) == [("s0", "b"), ("s1", "b")]


def test_without_thresholds_the_answers_of_the_branches_count():
    assert {(one.slide_id, one.hard_for) for one in _mined(WITH_NEGATIVE, [])} == {("s0", "a")}


def test_of_ordered_classes_a_lower_slide_is_hard_for_a_higher_class():
    found = _mined(ORDERED, [0.5, 0.5])
    assert {(one.slide_id, one.hard_for) for one in found} == {("s0", "low")}
