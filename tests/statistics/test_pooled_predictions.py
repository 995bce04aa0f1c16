import numpy as np

from hardmil.files.csv_table import Row
from hardmil.statistics.pooled_predictions import pool_predictions


def _row(slide: str, *, repeat: str = "0", fold: str = "0", arm: str = "ours", **more: str) -> Row:
    label = "tumour" if slide.startswith("t") else "normal"
    trial = {"arm": arm, "split": "case", "patches": "grid", "repeat": repeat, "fold": fold}
    return {
        **trial,
        "slide_id": slide,
        "case_id": f"case {slide[-1]}",
        "label": label,
        "bag_score": "0.25",
        **more,
    }


def test_the_folds_of_a_repeat_together_repeats_by_number():
    rows = [
        _row("t1", repeat="10"),
        _row("n2", repeat="2", fold="1", bag_score="0.75"),
        _row("t1", repeat="2", fold="0"),
        _row("t1", arm="abmil", repeat="2"),
    ]
    pooled = pool_predictions(rows, positive="tumour")
    assert list(pooled) == [("ours", "case", "grid"), ("abmil", "case", "grid")]
    two, ten = pooled["ours", "case", "grid"]
    assert (two.repeat, ten.repeat) == ("2", "10")
    assert two.bags == (("0", "t1"), ("1", "n2"))
    assert two.cases == ("case 1", "case 2")
    np.testing.assert_array_equal(two.labels, [1, 0])
    np.testing.assert_array_equal(two.scores, [0.25, 0.75])


def test_order_of_rows_does_not_matter():
    rows = [_row(slide, fold=fold) for fold in "01" for slide in ("t1", "n2", "n3")]
    (forward,) = pool_predictions(rows, positive="tumour").values()
    (backward,) = pool_predictions(rows[::-1], positive="tumour").values()
    assert forward[0].bags == backward[0].bags


def test_calls_at_the_operating_point_are_known_of_all_bags_or_of_none():
    called = [_row("t1", op_prediction="normal"), _row("n2", op_prediction="tumour")]
    (repeats,) = pool_predictions(called, positive="tumour").values()
    calls = repeats[0].called_at_op
    assert calls is not None
    np.testing.assert_array_equal(calls, [True, False])  # n2 comes first
    for rest in (_row("n3", op_prediction=""), _row("n3")):
        (repeats,) = pool_predictions([*called, rest], positive="tumour").values()
        assert repeats[0].called_at_op is None
