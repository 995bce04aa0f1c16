import dataclasses

import numpy as np
import pytest

from hardmil.evaluation.results import ArmKey, PredictionRow, TrialKey
from hardmil.statistics.pooled_predictions import pool_predictions


def _row(
    slide: str,
    *,
    repeat: int = 0,
    fold: int = 0,
    arm: str = "ours",
    bag_score: float = 0.25,
    op_prediction: str = "",
) -> PredictionRow:
    return PredictionRow(
        trial=TrialKey(arm, "case", "grid", repeat, fold),
        slide_id=slide,
        case_id=f"case {slide[-1]}",
        label="tumour" if slide.startswith("t") else "normal",
        bag_score=bag_score,
        op_prediction=op_prediction,
    )


def test_the_folds_of_a_repeat_together_repeats_by_number():
    rows = [
        _row("t1", repeat=10),
        _row("n2", repeat=2, fold=1, bag_score=0.75),
        _row("t1", repeat=2, fold=0),
        _row("t1", arm="abmil", repeat=2),
    ]
    pooled = pool_predictions(rows, positive="tumour")
    assert list(pooled) == [ArmKey("ours", "case", "grid"), ArmKey("abmil", "case", "grid")]
    two, ten = pooled[ArmKey("ours", "case", "grid")]
    assert (two.repeat, ten.repeat) == (2, 10)
    assert two.bags == ((0, "t1"), (1, "n2"))
    assert two.cases == ("case 1", "case 2")
    np.testing.assert_array_equal(two.labels, [1, 0])
    np.testing.assert_array_equal(two.scores, [0.25, 0.75])


def test_order_of_rows_does_not_matter():
    rows = [_row(slide, fold=fold) for fold in (0, 1, 10) for slide in ("t1", "n2", "n3")]
    (forward,) = pool_predictions(rows, positive="tumour").values()
    (backward,) = pool_predictions(rows[::-1], positive="tumour").values()
    assert forward[0].bags == backward[0].bags
    assert forward[0].bags[-1] == (10, "t1"), "by the number of the fold, not by its text"


def test_calls_at_the_operating_point_are_known_of_all_bags_or_of_none():
    called = [_row("t1", op_prediction="normal"), _row("n2", op_prediction="tumour")]
    (repeats,) = pool_predictions(called, positive="tumour").values()
    calls = repeats[0].called_at_op
    assert calls is not None
    np.testing.assert_array_equal(calls, [True, False])  # n2 comes first
    (repeats,) = pool_predictions([*called, _row("n3")], positive="tumour").values()
    assert repeats[0].called_at_op is None


def test_a_row_without_a_trial_cannot_be_pooled():
    with pytest.raises(ValueError, match="no trial"):
        pool_predictions([dataclasses.replace(_row("t1"), trial=None)], positive="tumour")
