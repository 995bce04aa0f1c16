import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from hardmil.evaluation.results import PredictionRow, ResultRow, TrialKey
from hardmil.files.csv_table import cells_of
from hardmil.metrics import BinaryMetrics
from hardmil.statistics.summary import (
    SUMMARY_COLUMNS,
    VALUES,
    ArmSummary,
    hard_minus_random,
    summarise,
    summary_row,
)


def _result(
    arm: str, repeat: int, fold: int, value: float, *, fpr: float = 0.0, n_hard: int = 0
) -> ResultRow:
    return ResultRow(
        trial=TrialKey(arm, "case", "grid", repeat, fold),
        config_hash="hash",
        n_false_positive_bags=2,
        n_hard=n_hard,
        metrics=BinaryMetrics(*[float(value)] * 5, fpr),
        seconds=1.0,
    )


def _predictions(arm: str, repeat: int, positive: list[float], negative: list[float]) -> list[PredictionRow]:
    trial = TrialKey(arm, "case", "grid", repeat, 0)
    return [
        PredictionRow(trial, f"{label}{i}", f"{label}{i}", label, score)
        for label, scores in (("tumour", positive), ("normal", negative))
        for i, score in enumerate(scores)
    ]


def _summarise(results: list[ResultRow], predictions: list[PredictionRow] | None = None) -> list[ArmSummary]:
    return summarise(results, predictions=predictions or [], positive="tumour")


def test_fold_means_then_mean_and_standard_error_over_repeats():
    results = [
        _result("ours", 0, 0, 0.6, n_hard=3),
        _result("ours", 0, 1, 0.8),
        _result("ours", 2, 0, 0.9, n_hard=4),
        _result("ours", 2, 1, 0.6),
        _result("ours", 10, 0, 1.0),
        _result("ours", 10, 1, 0.9),
    ]
    (one,) = _summarise(results)
    assert one.by_repeat["auc"] == pytest.approx([0.7, 0.75, 0.95])  # 10 comes after 2
    auc = one.values["auc"]
    assert auc.mean == pytest.approx(0.8)
    # deviations -.1, -.05, .15: variance .035 / 2
    assert auc.se == pytest.approx(math.sqrt(0.0175 / 3))
    assert (one.n_trials, one.n_repeats, one.n_hard, one.n_false_positive_bags) == (6, 3, 7, 12)


def test_a_fold_where_a_metric_is_undefined_is_left_out():
    results = [
        _result("ours", 0, 0, 0.5, fpr=0.2),
        _result("ours", 0, 1, 0.7, fpr=math.nan),
        _result("ours", 0, 2, 0.9, fpr=0.4),
        _result("ours", 1, 0, 0.7, fpr=math.nan),
    ]
    (one,) = _summarise(results)
    assert one.by_repeat["fpr"][0] == pytest.approx(0.3)
    assert math.isnan(one.by_repeat["fpr"][1])
    fpr = one.values["fpr"]
    assert (fpr.mean, fpr.n_used, fpr.n_left_out) == (pytest.approx(0.3), 1, 1)
    assert math.isnan(fpr.se)
    assert one.values["auc"].mean == pytest.approx(0.7)


def test_fpr_at_a_sensitivity_is_that_of_a_repeats_pooled_predictions():
    positives = [i / 20 for i in range(1, 21)]  # 90% of them reach .15, 95% .1
    predictions = [
        *_predictions("ours", 0, positives[:10], [0.12, 0.2]),
        *_predictions("ours", 0, positives[10:], [0.05, 0.1]),
        *_predictions("ours", 1, positives, [0.0, 0.01]),
        *_predictions("abmil", 0, [0.5], [0.9]),
    ]
    results = [_result("ours", 0, 0, 1), _result("ours", 1, 0, 1), _result("abmil", 0, 0, 1)]
    ours, abmil = _summarise(results, predictions)
    assert ours.by_repeat["fpr_at_sens_90"] == [1 / 4, 0]
    assert ours.by_repeat["fpr_at_sens_95"] == [3 / 4, 0]
    assert ours.values["fpr_at_sens_90"].mean == pytest.approx(1 / 8)
    assert abmil.by_repeat["fpr_at_sens_95"] == [1]


def test_fpr_at_a_sensitivity_needs_both_classes():
    (one,) = _summarise([_result("ours", 0, 0, 1)], _predictions("ours", 0, [0.5], []))
    assert math.isnan(one.values["fpr_at_sens_90"].mean)


def test_arms_come_in_the_order_of_their_rows_each_with_its_own():
    results = [_result("ours", 0, 0, 0.5), _result("abmil", 0, 0, 0.6), _result("ours", 0, 1, 0.7)]
    other = results[0]
    metrics = replace(other.metrics, auc=0.1)
    results.append(replace(other, trial=replace(other.trial, split="group"), metrics=metrics))
    found = _summarise(results)
    assert [(one.arm, one.split, one.n_trials) for one in found] == [
        ("ours", "case", 2),
        ("abmil", "case", 1),
        ("ours", "group", 1),
    ]
    assert [one.values["auc"].mean for one in found] == pytest.approx([0.6, 0.6, 0.1])


@pytest.mark.parametrize(
    ("arm", "mines"),
    [("ours", False), ("ours+instance", False), ("ours+sb", True), ("abmil+instance+fmb-oof@random", True)],
)
def test_which_arms_mine(arm: str, mines: bool):
    assert _summarise([_result(arm, 0, 0, 1)])[0].mines == mines


def _pair(
    *,
    values: tuple[float, ...] = (0.8, 0.8, 0.3),
    change: Callable[[TrialKey], TrialKey] = lambda trial: trial,
) -> list[ArmSummary]:
    hard = [_result("ours+mb", repeat, 0, value) for repeat, value in enumerate([0.9, 0.8, 0.7])]
    random = [_result("ours+mb@random", repeat, 0, value) for repeat, value in enumerate(values)]
    return _summarise([*hard, *(replace(row, trial=change(row.trial)) for row in random)])


def test_hard_minus_random_repeat_by_repeat():
    summary = _pair()
    difference = hard_minus_random(summary[0], summary=summary)
    assert difference is not None
    assert difference["auc"].mean == pytest.approx((0.1 + 0.0 + 0.4) / 3)
    # deviations -1/15, -1/6, 7/30
    variance = ((1 / 15) ** 2 + (1 / 6) ** 2 + (7 / 30) ** 2) / 2
    assert difference["auc"].se == pytest.approx(math.sqrt(variance / 3))
    assert difference["fpr"].mean == 0


def test_hard_minus_random_needs_a_control_run_as_often():
    summary = _pair()
    assert hard_minus_random(summary[1], summary=summary) is None
    for summary in (
        _pair(values=(0.8, 0.8)),
        _pair(change=lambda trial: replace(trial, split="group")),
        _pair(change=lambda trial: replace(trial, repeat=0)),
    ):
        assert hard_minus_random(summary[0], summary=summary) is None


def test_rows_of_the_summary():
    (one,) = _summarise([_result("ours", 0, 0, 0.5), _result("ours", 1, 0, 0.7)])
    row = summary_row(one)
    assert set(cells_of(row)) == {*SUMMARY_COLUMNS, "class_name"}
    assert SUMMARY_COLUMNS[:7] == (
        "arm", "split", "patches", "n_trials", "n_repeats", "n_false_positive_bags", "n_hard",
    )  # fmt: skip
    assert SUMMARY_COLUMNS[7::2] == VALUES
    assert SUMMARY_COLUMNS[8::2] == tuple(f"{name}_se" for name in VALUES)
    assert (row.arm, row.n_trials, row.n_repeats) == ("ours", 2, 2)
    assert (row.values["accuracy"], row.values["accuracy_se"]) == (pytest.approx(0.6), pytest.approx(0.1))


def test_pooled_metrics_are_of_all_folds_of_a_repeat_together():
    """Positives .9 .8 .2 and negatives .6 .1 0 .7, in two folds; the values by hand."""
    predictions = [
        *_predictions("ours", 0, [0.9], [0.6, 0.1]),
        *_predictions("ours", 0, [0.8, 0.2], [0.0, 0.7]),
        *_predictions("ours", 1, [0.9, 0.8, 0.7], [0.0, 0.1, 0.2, 0.3]),
    ]
    results = [_result("ours", 0, 0, 0.25), _result("ours", 0, 1, 0.25), _result("ours", 1, 0, 0.25)]
    (one,) = _summarise(results, predictions)
    expected = {
        "pooled_accuracy": 4 / 7,
        "pooled_precision": 2 / 4,
        "pooled_recall": 2 / 3,
        "pooled_f_score": 4 / 7,
        "pooled_auc": 10 / 12,
        "pooled_fpr": 2 / 4,
        "balanced_accuracy": (2 / 3 + 2 / 4) / 2,
        "average_precision": (1 + 1 + 3 / 5) / 3,
        "brier": (0.01 + 0.04 + 0.64 + 0.36 + 0.01 + 0 + 0.49) / 7,
        "ece": (0.1 + 0.2 + 0.8 + 0.6 + 0.1 + 0 + 0.7) / 7,
    }
    assert {name: one.by_repeat[name][0] for name in expected} == pytest.approx(expected)
    assert one.by_repeat["pooled_auc"][1] == 1
    assert one.values["pooled_auc"].mean == pytest.approx((10 / 12 + 1) / 2)
    assert one.values["auc"].mean == 0.25, "the fold means stay next to them"


def test_rates_at_the_operating_point_are_of_the_calls_made_there():
    trained = _predictions("ours", 0, [0.9, 0.8, 0.2], [0.6, 0.1])
    calls = ["tumour", "normal", "normal", "normal", "tumour"]
    trained = [replace(row, op_prediction=call) for row, call in zip(trained, calls, strict=True)]
    results = [_result("ours", 0, 0, 1), _result("ours", 1, 0, 1)]
    (one,) = _summarise(results, [*trained, *_predictions("ours", 1, [0.9], [0.6])])
    assert (one.values["sens_op"].mean, one.values["fpr_op"].mean) == pytest.approx((1 / 3, 1 / 2))
    assert one.values["fpr_op"].n_left_out == 1, "the repeat that has no such calls"


def test_instance_truth_is_the_mean_over_trials_where_it_is_known():
    results = [
        replace(_result("ours", 0, 0, 1), instance_auc=0.6),
        replace(_result("ours", 0, 1, 1), instance_auc=0.8, mined_look_alikes=0.5),
        _result("abmil", 0, 0, 1),
    ]
    ours, abmil = _summarise(results)
    assert ours.values["instance_auc"].mean == pytest.approx(0.7)
    assert ours.values["mined_look_alikes"].mean == 0.5
    assert math.isnan(abmil.values["instance_auc"].mean)
