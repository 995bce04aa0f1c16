import numpy as np
import pytest
from pydantic import ValidationError

from hardmil.config.section import fingerprint
from hardmil.config.study import StudyConfig, model_config
from hardmil.config.task import TWO_CLASSES, TaskConfig

NAMES = ("normal", "a", "b")
EXCLUSIVE = TaskConfig(names=NAMES)
WITH_NEGATIVE = TaskConfig(names=NAMES, negative="normal")
ORDERED = TaskConfig(names=NAMES, ordinal=True)


def _free(task: TaskConfig) -> list[list[bool]]:
    return [[task.is_free(c, branch=b) for b in range(task.n_branches)] for c in range(task.n_classes)]


def _yes(task: TaskConfig) -> list[list[bool]]:
    return [[task.is_yes(c, branch=b) for b in range(task.n_branches)] for c in range(task.n_classes)]


def test_two_classes_have_one_branch_of_which_negative_bags_are_free():
    assert (TWO_CLASSES.n_classes, TWO_CLASSES.n_branches, TWO_CLASSES.negative_label) == (2, 1, 0)
    assert _yes(TWO_CLASSES) == [[False], [True]]
    assert _free(TWO_CLASSES) == [[True], [False]]


def test_a_bag_of_an_exclusive_class_is_free_of_all_others():
    assert (EXCLUSIVE.n_branches, EXCLUSIVE.branch_names, EXCLUSIVE.negative_label) == (3, NAMES, None)
    assert _yes(EXCLUSIVE) == [[True, False, False], [False, True, False], [False, False, True]]
    assert _free(EXCLUSIVE) == [[False, True, True], [True, False, True], [True, True, False]]


def test_the_negative_class_has_no_branch():
    """It is what a bag is that answers no to all: there is normal tissue on every slide."""
    assert (WITH_NEGATIVE.n_branches, WITH_NEGATIVE.branch_names) == (2, ("a", "b"))
    assert _yes(WITH_NEGATIVE) == [[False, False], [True, False], [False, True]]
    assert _free(WITH_NEGATIVE) == [[True, True], [False, True], [True, False]]
    assert WITH_NEGATIVE.negative_label == 0
    last = TaskConfig(names=NAMES, negative="b")
    assert (last.negative_label, last.branch_names) == (2, ("normal", "a"))
    assert _yes(last) == [[True, False], [False, True], [False, False]]


def test_the_attention_of_a_class_is_that_of_its_branch():
    assert [EXCLUSIVE.branch_of(label) for label in range(3)] == [0, 1, 2]
    for task in (WITH_NEGATIVE, ORDERED):
        assert [task.branch_of(label) for label in range(3)] == [0, 0, 1]
    assert [TWO_CLASSES.branch_of(label) for label in range(2)] == [0, 0]


def test_an_ordered_class_is_free_of_all_higher_ones():
    assert (ORDERED.n_branches, ORDERED.branch_names, ORDERED.negative_label) == (2, ("a", "b"), 0)
    assert _yes(ORDERED) == [[False, False], [True, False], [True, True]]
    assert _free(ORDERED) == [[True, True], [False, True], [False, False]]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (TWO_CLASSES, [[True, False], [True, True]]),
        (EXCLUSIVE, [[True, False, False], [False, True, False], [False, False, True]]),
        (WITH_NEGATIVE, [[True, False, False], [True, True, False], [True, False, True]]),
        (ORDERED, [[True, False, False], [True, True, False], [True, True, True]]),
    ],
)
def test_a_bag_keeps_its_label_with_instances_of_its_class_or_of_one_below(
    task: TaskConfig, expected: list[list[bool]]
):
    """[label][source]; the row of a positive bag of two classes says that positive instances keep it so."""
    n = task.n_classes
    assert [[task.may_hold(c, source=s) for s in range(n)] for c in range(n)] == expected


def test_unknown_labels_answer_no_question():
    assert not any(task.is_free(-1, branch=0) for task in (TWO_CLASSES, EXCLUSIVE, WITH_NEGATIVE, ORDERED))


def test_branch_scores_of_ordered_classes_are_sums_from_the_top():
    scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(ORDERED.branch_scores(scores), [[0.5, 0.2], [0.9, 0.8]])
    np.testing.assert_array_equal(EXCLUSIVE.branch_scores(scores), scores)
    np.testing.assert_array_equal(WITH_NEGATIVE.branch_scores(scores), scores[:, 1:])
    np.testing.assert_array_equal(TWO_CLASSES.branch_scores(scores[:, :2]), scores[:, 1:2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"names": ("a",)}, "expected no names, or two at least"),
        ({"names": ("a", "b", "a")}, "a is listed twice"),
        ({"names": ("a", "macro", "b")}, "macro is the word of the tables .*; rename this label"),
        ({"names": NAMES, "negative": "c"}, "negative is 'c'; expected one of the classes, normal, a, b"),
        ({"names": NAMES, "negative": "b", "ordinal": True}, "the lowest is negative; expected normal"),
    ],
)
def test_classes_that_do_not_fit_are_refused(content: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        TaskConfig.model_validate(content)


def test_the_classes_of_a_study_are_part_of_its_model_and_two_leave_hashes_alone():
    many = StudyConfig(classes=NAMES, negative="normal")
    assert model_config(many).task == WITH_NEGATIVE
    assert "task" in model_config(many).hashed()
    for binary in (StudyConfig(), StudyConfig(classes=("normal", "a"))):
        assert model_config(binary).task == TWO_CLASSES
        assert "task" not in model_config(binary).hashed()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classes": ["a"]}, "expected two or more labels"),
        ({"classes": ["a", "b", "a"]}, "a is listed twice"),
        ({"classes": [True, False, "x"]}, "write the label in quotes"),
        ({"negative": "a"}, "list them in `classes`"),
        ({"ordinal": True}, "list them in `classes`"),
        ({"classes": ["a", "b", "c"], "positive": "c"}, "positive and classes disagree"),
        ({"classes": ["a", "b"], "positive": "a"}, "positive and classes disagree"),
        ({"classes": ["a", "b", "c"], "negative": "d"}, "expected one of the classes"),
    ],
)
def test_a_study_names_the_class_that_does_not_fit(content: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        StudyConfig.model_validate(content)


MULTI = TaskConfig(names=("a", "b", "c"), multi_label=True)


def test_a_label_of_several_classes_has_a_bit_for_each():
    assert (MULTI.n_classes, MULTI.n_branches, MULTI.n_labels, MULTI.negative_label) == (3, 3, 8, 0)
    assert [MULTI.is_yes(0b101, branch=k) for k in range(3)] == [True, False, True]
    assert [MULTI.is_free(0b101, branch=k) for k in range(3)] == [False, True, False]
    assert not any(MULTI.is_free(-1, branch=k) for k in range(3)), "nothing is known of a bag without a label"
    assert MULTI.answers(np.array([0b101, 0])).tolist() == [[True, False, True], [False] * 3]
    assert MULTI.strata(np.array([0b101]))[0].tolist() == [True, False, True, False, True, False]


@pytest.mark.parametrize("label", range(8))
def test_the_text_of_a_label_is_the_names_of_its_classes(label: int):
    assert MULTI.label_of(MULTI.label_text(label)) == label


def test_texts_of_labels():
    assert [MULTI.label_text(label) for label in (0, 1, 6, 7)] == ["none", "a", "b + c", "a + b + c"]
    assert [EXCLUSIVE.label_of(EXCLUSIVE.label_text(label)) for label in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="d"):
        MULTI.label_of("a + d")


@pytest.mark.parametrize("label", range(8))
@pytest.mark.parametrize("source", range(8))
def test_instances_keep_a_label_where_the_bag_has_all_classes_of_their_own(label: int, source: int):
    classes = [{k for k in range(3) if number >> k & 1} for number in (label, source)]
    assert MULTI.may_hold(label, source=source) == (classes[1] <= classes[0])


def test_the_branch_of_several_classes_is_that_of_the_highest_score_among_them():
    scores = np.array([0.2, 0.9, 0.6])
    assert [MULTI.branch_of(label, class_scores=scores) for label in (0, 0b001, 0b101, 0b111)] == [1, 0, 2, 1]
    with pytest.raises(ValueError, match="depends on the scores"):
        MULTI.branch_of(1)
    assert [MULTI.only_class(label) for label in (0, 1, 2, 3, 4)] == [None, 0, 1, None, 2]
    assert [WITH_NEGATIVE.only_class(label) for label in range(3)] == [None, 1, 2]


@pytest.mark.parametrize("label", range(8))
def test_several_classes_have_a_branch_each(label: int):
    assert MULTI.own_branches(label) == tuple(
        k for k, name in enumerate("abc") if name in MULTI.label_text(label)
    )


def test_one_class_has_one_branch_and_the_negative_one_none():
    assert [WITH_NEGATIVE.own_branches(label) for label in range(3)] == [(), (0,), (1,)]
    assert [ORDERED.own_branches(label) for label in range(3)] == [(), (0,), (1,)]
    assert [EXCLUSIVE.own_branches(label) for label in range(3)] == [(0,), (1,), (2,)]
    assert [TWO_CLASSES.own_branches(label) for label in range(2)] == [(), (0,)]
    assert MULTI.own_branches(-1) == WITH_NEGATIVE.own_branches(-1) == ()


def test_only_exclusive_and_ordered_classes_have_a_negative_one():
    tasks = (WITH_NEGATIVE, ORDERED, TWO_CLASSES, EXCLUSIVE, MULTI)
    assert [task.negative_class for task in tasks] == [0, 0, 0, None, None]


@pytest.mark.parametrize("task", [MULTI, WITH_NEGATIVE, ORDERED, EXCLUSIVE])
def test_the_label_of_a_class_has_no_other(task: TaskConfig):
    for position in range(task.n_classes):
        label = task.label_of_class(position)
        assert task.only_class(label) == (None if position == task.negative_class else position)
        assert task.label_text(label) == task.names[position]


def test_studies_of_one_label_have_the_hash_of_before():
    values = {"names": list(NAMES), "negative": "normal", "ordinal": False}
    assert WITH_NEGATIVE.fingerprint() == fingerprint(values)
    assert TaskConfig(names=NAMES, multi_label=True).fingerprint() != TaskConfig(names=NAMES).fingerprint()
    before = {name for name in StudyConfig().hashed() if name != "about"}
    assert "multi_label" not in before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classes": ["a", "b"], "negative": "a"}, "multi_label excludes negative and ordinal"),
        ({"classes": ["a", "b"], "ordinal": True}, "multi_label excludes negative and ordinal"),
        ({"classes": ["a", "b"], "positive": "b"}, "multi_label excludes positive"),
        ({}, "multi_label: 0 classes; expected 2 to 24 in `classes`"),
        ({"classes": [f"c{k}" for k in range(25)]}, "multi_label: 25 classes; expected 2 to 24"),
        ({"classes": ["a", "None"]}, "'None'; with multi_label, 'none' is a slide without any class"),
        ({"classes": ["a", "b + c"]}, "' \\+ ' joins the classes of a slide; rename this class"),
        ({"classes": ["a", "b +"]}, "'b \\+'; with multi_label, .* rename this class"),
        ({"classes": ["a", "macro"]}, "macro is the word of the tables"),
    ],
)
def test_settings_that_do_not_fit_several_labels_are_refused(content: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        StudyConfig.model_validate({**content, "multi_label": True})


def test_two_classes_may_be_several_labels():
    study = StudyConfig(classes=("a", "b"), multi_label=True)
    assert study.task == TaskConfig(names=("a", "b"), multi_label=True)
    assert not study.task.is_binary
    assert StudyConfig(classes=("a", "b")).task == TWO_CLASSES
