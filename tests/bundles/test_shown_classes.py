from functools import partial

import numpy as np
import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, class_bags, class_score
from tests.support.many_labels import MULTI, multi_bags, multi_score

from hardmil.bags.slide_table import SlideRow
from hardmil.bundles.shown_classes import (
    ShownBranch,
    check_shown_class,
    class_folders,
    relative_branch,
    shown_branches,
)
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.errors import ConfigError

ROW = SlideRow("s1", "c1", "a")


def _shown(scores: list[float], *, wanted: str | None, task: TaskConfig = EXCLUSIVE) -> list[ShownBranch]:
    bag = class_bags(2)[1]
    score = class_score(bag, scores, task=task)
    return shown_branches(bag, ROW, score=score, classes=task.names, task=task, wanted=wanted)


def test_the_predicted_class_is_shown_with_its_score():
    (one,) = _shown([0.2, 0.1, 0.7], wanted=None)
    assert (one.folder, one.attention.shown_class, one.attention.bag_score) == ("", "b", 0.7)
    assert one.attention.attention.argmax() == 2
    assert one.attention.classes == ("other classes", "b")


def test_one_class_or_all_have_folders():
    (one,) = _shown([0.2, 0.1, 0.7], wanted="a")
    assert (one.folder, one.attention.shown_class, one.attention.bag_score) == ("a", "a", 0.1)
    assert [one.folder for one in _shown([0.2, 0.1, 0.7], wanted="all")] == ["normal", "a", "b"]


def test_of_ordered_classes_the_question_of_the_predicted_class_is_shown():
    titles = [_shown(scores, wanted=None, task=ORDERED)[0].attention for scores in np.eye(3).tolist()]
    assert [one.shown_class for one in titles] == ["low or higher", "low or higher", "high"]
    assert [one.bag_score for one in titles] == [0, 1, 1]


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("a", TWO_CLASSES, "the bundle has two classes"),
        ("c", EXCLUSIVE, "--class c: expected one of normal, a, b, or all"),
        ("benign", ORDERED, "expected one of low, high, or all; benign is the negative class"),
    ],
)
def test_other_classes_are_refused(name: str, task: TaskConfig, message: str):
    with pytest.raises(ConfigError, match=message):
        check_shown_class(name, task=task)


def test_a_folder_of_a_class_is_the_name_of_a_file_and_differs_from_the_others():
    assert class_folders(["lesion A", "G1/2", "G1:2", "..", "hoch gradig ä"]) == [
        "lesion A",
        "G1_2",
        "G1_2-2",
        "__",
        "hoch gradig ä",
    ]


def test_contributions_of_exclusive_classes_are_relative_to_the_others():
    """Differences between branches stay, and the mean over them is 0."""
    score = class_score(class_bags(2)[1], [0.2, 0.1, 0.7])
    found = [relative_branch(score, branch=branch, task=EXCLUSIVE) for branch in range(3)]
    for name in ("contribution", "instance_logit"):
        np.testing.assert_allclose(np.sum([getattr(one, name) for one in found], axis=0), 0, atol=1e-6)
        first, second = (getattr(score.branches[k], name) for k in (0, 1))
        shown = getattr(found[0], name) - getattr(found[1], name)
        np.testing.assert_allclose(shown, first - second, atol=1e-6)
    ordered = class_score(class_bags(2)[1], [0.2, 0.1, 0.7], task=ORDERED)
    assert relative_branch(ordered, branch=1, task=ORDERED) is ordered.branches[1]


def test_of_several_labels_the_highest_score_is_shown_unless_a_class_is_named():
    bag = multi_bags(1)[0]
    score = multi_score(bag, (0.2, 0.9, 0.6))
    row = SlideRow(bag.slide_id, bag.case_id, "b + c")
    shown = partial(shown_branches, bag, row, score=score, classes=MULTI.names, task=MULTI)
    (best,) = shown()
    assert (best.attention.shown_class, best.attention.bag_score) == ("b", 0.9)
    assert best.attention.classes == ("no b", "b")
    (named,) = shown(wanted="c")
    assert (named.attention.shown_class, named.folder) == ("c", "c")
    assert [one.attention.shown_class for one in shown(wanted="all")] == list(MULTI.names)
    # Zero means that a patch speaks neither for the class nor against it: no mean is subtracted.
    np.testing.assert_array_equal(named.attention.contribution, score.branches[2].contribution)
