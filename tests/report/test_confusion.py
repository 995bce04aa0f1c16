from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.support.evaluations import make_evaluation

from hardmil.bags.folds import Fold
from hardmil.evaluation.evaluation import Evaluation, TrialRows
from hardmil.evaluation.results import prediction_row
from hardmil.report.confusion import confusion_of


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
