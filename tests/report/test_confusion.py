from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.evaluations import make_evaluation
from tests.support.many_classes import EXCLUSIVE, ORDERED, class_bags, class_prediction_rows, class_score
from tests.support.many_labels import MULTI, multi_bags, multi_score

from hardmil.bags.folds import Fold
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.evaluation.evaluation import Evaluation, TrialRows
from hardmil.evaluation.results import PredictionRow, class_prediction_row, prediction_row
from hardmil.report.confusion import confusion_of, shown_class, wrong_slides


def mined_words(evaluation: Evaluation) -> dict[str, str]:
    """What the page says was mined from each slide, by slide_id, where nothing was mined."""
    key = evaluation.key(evaluation.trials()[0])
    predictions = [
        prediction_row(bag, 0.9, classes=evaluation.classes, trial=key) for bag in evaluation.cohort.bags
    ]
    found = confusion_of(TrialRows([], predictions, []), arm=key.arm, evaluation=evaluation)
    assert found is not None
    return {slide.slide_id: slide.mined for slide in found.slides}


def test_mining_is_mentioned_only_for_negative_slides_that_an_arm_that_mines_was_trained_on(tmp_path: Path):
    """Slides 0, 1, 4, 5, 8 and 9 are negative; the one fold trains on the first eight."""
    one_fold = [[Fold(np.arange(8), np.arange(8, 12))]]
    evaluation = replace(make_evaluation(tmp_path), folds=one_fold)
    words = mined_words(evaluation)
    nothing = "Nothing was mined from it: where other folds trained on it, no model called it positive."
    assert {slide_id for slide_id, text in words.items() if text} == {"s0", "s1", "s4", "s5"}
    assert words["s0"] == nothing
    without_mining = replace(make_evaluation(tmp_path, arms=("ours",)), folds=one_fold)
    assert set(mined_words(without_mining).values()) == {""}


@pytest.mark.parametrize(("task", "free"), [(EXCLUSIVE, {"normal", "b"}), (ORDERED, {"benign"})])
def test_of_many_classes_mining_is_mentioned_where_the_slide_is_known_free_of_the_called_class(
    tmp_path: Path, task: TaskConfig, free: set[str]
):
    """All slides are called the second class. A slide of the highest of ordered classes may hold it."""
    evaluation = _class_evaluation(tmp_path, task)
    found = confusion_of(_rows(evaluation, called=1), arm="ours+inject-oof", evaluation=evaluation)
    assert found is not None
    said = {slide.label for slide in found.slides if slide.mined}
    assert said == free
    called = task.names[1]
    slide = next(one for one in found.slides if one.mined)
    assert slide.mined.endswith(f"no model called it {called}.")
    assert slide.scored == f"score 0.700 for {called}, 0.150 for {slide.label}"
    right = next(one for one in found.slides if one.label == called)
    assert right.scored == f"score 0.700 for {called}"


def test_wrong_slides_of_many_classes_alternate_between_the_cells(tmp_path: Path):
    evaluation = _class_evaluation(tmp_path, EXCLUSIVE)
    found = confusion_of(_rows(evaluation, called=1), arm="ours+inject-oof", evaluation=evaluation)
    assert found is not None
    wrong = wrong_slides(found, classes=EXCLUSIVE.names)
    assert [one.label for one in wrong] == ["normal", "b"] * 6
    assert {one.called for one in wrong} == {"a"}


def test_the_lowest_of_ordered_classes_has_the_attention_of_the_next():
    def shown(called: str, *, task: TaskConfig) -> str:
        row = replace(class_prediction_rows(task=task)[0], prediction=called)
        return shown_class(row, task=task)

    assert [shown(name, task=ORDERED) for name in ORDERED.names] == [
        "low or higher",
        "low or higher",
        "high",
    ]
    assert shown("a", task=EXCLUSIVE) == "a"
    assert shown_class(PredictionRow(None, "s", "c", "tumour", 0.5), task=TWO_CLASSES) == ""


def _class_evaluation(folder: Path, task: TaskConfig) -> Evaluation:
    classes = {"classes": list(task.names), "negative": task.negative, "ordinal": task.ordinal}
    evaluation = make_evaluation(folder, arms=("ours+inject-oof",), bags=class_bags(), study=classes)
    return replace(evaluation, classes=task.names)


def _rows(evaluation: Evaluation, *, called: int) -> TrialRows:
    """Each slide is called the same class with 0.7."""
    scores = [0.7 if number == called else 0.15 for number in range(3)]
    predictions = [
        class_prediction_row(
            bag,
            class_score(bag, scores, task=evaluation.task),
            task=evaluation.task,
            trial=evaluation.key(evaluation.trials()[0]),
        )
        for bag in evaluation.cohort.bags
    ]
    return TrialRows([], predictions, [])


def test_slides_of_several_labels_are_in_the_table_of_each_class(tmp_path: Path):
    """All slides are called b and c."""
    classes = {"classes": list(MULTI.names), "multi_label": True}
    bags = multi_bags(16)
    evaluation = make_evaluation(tmp_path, arms=("ours+inject-oof",), bags=bags, study=classes)
    evaluation = replace(evaluation, classes=MULTI.names)
    key = evaluation.key(evaluation.trials()[0])
    predictions = [
        class_prediction_row(bag, multi_score(bag, (0.2, 0.6, 0.9)), task=MULTI, trial=key) for bag in bags
    ]
    found = confusion_of(TrialRows([], predictions, []), arm="ours+inject-oof", evaluation=evaluation)
    assert found is not None
    for k, name in enumerate(MULTI.names):
        for has in (True, False):
            expected = [bag.slide_id for bag in bags if MULTI.is_yes(bag.label, branch=k) == has]
            shown = [one.slide_id for one in found.of_class(name, has=has, called=name != "a")]
            assert shown == expected
            assert found.of_class(name, has=has, called=name == "a") == []
    assert {one.label for one in found.wrong} == {MULTI.label_text(label) for label in range(8)} - {"b + c"}
    worst = {one.slide_id: (one.error, one.scored, one.false_for) for one in found.wrong}
    assert worst["s1"] == (pytest.approx(0.4), "score 0.200 for a, 0.600 for b, 0.900 for c", ["b", "c"])
    assert worst["s7"] == (pytest.approx(0.3), "score 0.200 for a", [])
    errors = [one.error for one in found.wrong]
    assert errors == sorted(errors, reverse=True)
    assert shown_class(predictions[1], task=MULTI) == "c"
