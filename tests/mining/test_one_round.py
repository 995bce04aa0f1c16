from dataclasses import replace

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.metrics import binary_metrics
from hardmil.mil.bag_score import BagScore
from hardmil.mil.class_scores import with_classes
from hardmil.mining.hard_instances import HardInstance
from hardmil.mining.one_round import branch_view, mean_auc, mine_round

NAMES = ("normal", "a", "b")
WITH_NEGATIVE = TaskConfig(names=NAMES, negative="normal")
WITHOUT = TaskConfig(names=NAMES)
ORDERED = TaskConfig(names=NAMES, ordinal=True)
MINING = MiningConfig(use="fmb")


def _bag(number: int, label: int) -> Bag:
    coords = np.arange(8, dtype=np.int64).reshape(4, 2)
    return Bag(f"s{number}", f"c{number}", label, np.ones((4, 2), np.float32), coords, 16)


def _score(called: int, *, task: TaskConfig) -> BagScore:
    """A bag called this class; branch k attends to instance k alone."""
    branches = [
        BagScore(0.0, np.eye(4, dtype=np.float32)[k], np.zeros(4, np.float32)) for k in range(task.n_branches)
    ]
    if task.ordinal:
        logits = np.where(np.arange(task.n_branches) < called, 2.0, -2.0)
    else:
        logits = np.where(np.array(task.branch_labels) == called, 2.0, -1.0)
    return with_classes(branches, logits=logits, task=task)


BAGS = [_bag(number, label) for number, label in enumerate((0, 0, 1, 1, 2, 2))]


def _found(called: list[int], *, task: TaskConfig, **rest: object) -> set[tuple[str, str, int]]:
    scores = [_score(one, task=task) for one in called]
    mined = mine_round(
        BAGS, scores=scores, task=task, mining=MINING.model_copy(update=rest), number=1, pool=[], seed=0
    )
    return {(one.slide_id, one.hard_for, one.instance) for one in mined.found}


def test_instances_are_hard_for_the_class_that_their_bag_was_called():
    """s0 normal is called a, s2 a is called b, s4 b is called a; branch k attends to instance k."""
    expected = {("s0", "a", 0), ("s2", "b", 1), ("s4", "a", 0)}
    assert _found([1, 0, 2, 1, 1, 2], task=WITH_NEGATIVE) == expected


def test_a_lesion_called_normal_is_no_hard_negative_for_normal():
    assert _found([0, 0, 0, 1, 0, 2], task=WITH_NEGATIVE) == set()
    assert _found([0, 0, 0, 1, 0, 2], task=WITHOUT) == {("s2", "normal", 0), ("s4", "normal", 0)}


def test_of_ordered_classes_a_bag_is_hard_for_each_step_it_was_called_too_high():
    assert _found([2, 0, 2, 1, 1, 2], task=ORDERED) == {("s0", "a", 0), ("s0", "b", 1), ("s2", "b", 1)}


def test_false_positive_bags_are_counted_in_all_and_of_the_negative_class():
    scores = [_score(one, task=WITH_NEGATIVE) for one in (1, 0, 2, 1, 1, 2)]
    mined = mine_round(BAGS, scores=scores, task=WITH_NEGATIVE, mining=MINING, number=1, pool=[], seed=0)
    assert (mined.n_bags, mined.n_negative_bags) == (3, 1)


def test_the_control_has_as_many_for_each_class_from_bags_free_of_it():
    drawn = _found([1, 0, 2, 1, 1, 2], task=WITH_NEGATIVE, draw="random")
    by_class = {name: {slide for slide, hard_for, _ in drawn if hard_for == name} for name in NAMES}
    assert {name: len([1 for _, one, _ in drawn if one == name]) for name in NAMES} == {
        "normal": 0,
        "a": 2,
        "b": 1,
    }
    assert by_class["a"] <= {"s0", "s1", "s4", "s5"}
    assert by_class["b"] <= {"s0", "s1", "s2", "s3"}


def test_what_was_mined_for_a_class_is_not_mined_for_it_again():
    scores = [_score(one, task=WITH_NEGATIVE) for one in (1, 0, 2, 1, 1, 2)]
    known = HardInstance(1, "s0", "c0", 0, 0, 1, 16, 1.0, 0.9, -1, "train", "a")
    for pool, n in (([known], 2), ([replace(known, hard_for="b")], 3)):
        mined = mine_round(
            BAGS, scores=scores, task=WITH_NEGATIVE, mining=MINING, number=2, pool=pool, seed=0
        )
        assert len(mined.found) == n


def test_the_auc_is_the_mean_over_the_branches():
    scores = [_score(one, task=WITHOUT) for one in (1, 0, 2, 1, 1, 2)]
    found: list[float] = []
    for branch in range(3):
        labels = np.array([int(bag.label == branch) for bag in BAGS])
        values = np.array([one.branches[branch].bag_score for one in scores])
        found.append(binary_metrics(labels, values).auc)
    assert mean_auc(BAGS, scores, task=WITHOUT) == pytest.approx(np.mean(found))


def test_two_classes_are_seen_as_they_are():
    bags, scores = BAGS[:4], [BagScore(0.5, np.ones(4), np.ones(4))] * 4
    assert branch_view(bags, scores, branch=0, task=TWO_CLASSES) == (bags, scores)
