import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.many_classes import EXCLUSIVE, NAMES, ORDERED, class_score

from hardmil.bags.bag import Bag
from hardmil.config.task import TWO_CLASSES
from hardmil.evaluation.results import (
    ArmKey,
    HardNegativeRow,
    PredictionRow,
    ResultRow,
    TrialKey,
    class_prediction_row,
    hard_negative_columns,
    key_of,
    prediction_columns,
    prediction_row,
    result_columns,
)
from hardmil.files.csv_table import read_table, write_table
from hardmil.metrics import BinaryMetrics
from hardmil.mining.hard_instances import HardInstance

CLASSES = ("normal", "tumour")
COLUMNS = prediction_columns(CLASSES)


def _trial(arm: str, fold: int) -> TrialKey:
    return TrialKey(arm, "case", "grid", 0, fold)


def _prediction(trial: TrialKey, slide_id: str) -> PredictionRow:
    chances = {"normal": 0.75, "tumour": 0.25}
    return PredictionRow(trial, slide_id, f"case of {slide_id}", "tumour", 0.5, probabilities=chances)


def test_text_of_any_kind_comes_back(tmp_path: Path):
    slides = ["0012", 'a "b", c', "ü;ß"]
    rows = [_prediction(_trial("ours", 0), slide) for slide in slides]
    write_table(tmp_path / "t.csv", rows, row=PredictionRow, columns=COLUMNS)
    assert read_table(tmp_path / "t.csv", PredictionRow) == rows


def _bag(slide_id: str, label: int) -> Bag:
    return Bag(slide_id, "c1", label, np.zeros((3, 2), np.float32), np.zeros((3, 2), np.int64), 16)


@pytest.mark.parametrize(("value", "prediction"), [(0.75, "tumour"), (0.5, "normal"), (0.25, "normal")])
def test_predictions_name_classes(value: float, prediction: str):
    assert prediction_row(_bag("s1", 1), value, classes=CLASSES) == PredictionRow(
        trial=None,
        slide_id="s1",
        case_id="c1",
        label="tumour",
        bag_score=value,
        prediction=prediction,
        op_prediction="",
        probabilities={"normal": 1 - value, "tumour": value},
    )


def test_a_calibrated_probability_replaces_the_score():
    row = prediction_row(_bag("s1", 0), 0.75, classes=CLASSES, probability=0.25)
    assert (row.bag_score, row.prediction, row.label) == (0.75, "tumour", "normal")
    assert row.probabilities == {"normal": 0.75, "tumour": 0.25}


def test_predictions_of_slides_without_a_label_and_with_another_threshold():
    row = prediction_row(_bag("s1", -1), 0.3, classes=CLASSES, threshold=0.2)
    assert (row.label, row.prediction) == ("", "tumour")


def test_the_operating_point_has_a_column_of_its_own():
    bag = _bag("s1", 1)
    row = prediction_row(bag, 0.3, classes=CLASSES, op_threshold=0.2)
    assert (row.prediction, row.op_prediction) == ("tumour", "tumour")
    row = prediction_row(bag, 0.2, classes=CLASSES, op_threshold=0.2)
    assert row.op_prediction == "normal"


def test_columns_are_those_of_the_design():
    trial = "arm,split,patches,repeat,fold"
    assert ",".join(result_columns(TWO_CLASSES)) == (
        f"{trial},config_hash,n_false_positive_bags,n_hard,accuracy,precision,recall,f_score,auc,fpr,"
        "op_threshold,instance_auc,mined_look_alikes,seconds"
    )
    assert ",".join(hard_negative_columns(TWO_CLASSES)) == (
        f"{trial},round,slide_id,case_id,instance,x,y,size_level0,attention,bag_score,cluster,source"
    )
    assert ",".join(prediction_columns(("a", "b"))) == (
        f"{trial},slide_id,case_id,label,bag_score,prediction,op_prediction,prob_a,prob_b"
    )


def test_more_than_two_classes_have_columns_by_class():
    assert result_columns(EXCLUSIVE)[-3:] == ("op_threshold_normal", "op_threshold_a", "op_threshold_b")
    assert result_columns(ORDERED)[-2:] == ("op_threshold_low", "op_threshold_high")
    assert hard_negative_columns(EXCLUSIVE)[-1] == "hard_for"
    assert ",".join(prediction_columns(ORDERED.names, task=ORDERED)).endswith(
        "op_prediction,prob_benign,prob_low,prob_high,score_benign,score_low,score_high,"
        "called_low,called_high"
    )


def test_a_prediction_of_many_classes_names_its_class():
    bag = _bag("s1", 2)
    row = class_prediction_row(
        bag,
        class_score(bag, [0.2, 0.45, 0.35]),
        task=EXCLUSIVE,
        thresholds=[0.3, 0.3, math.nan],
        probabilities=np.array([0.3, 0.4, 0.3]),
    )
    assert (row.label, row.prediction, row.bag_score, row.op_prediction) == ("b", "a", 0.45, "")
    assert row.probabilities == {"normal": 0.3, "a": 0.4, "b": 0.3}
    assert row.scores == {"normal": 0.2, "a": 0.45, "b": 0.35}
    assert (row.called["normal"], row.called["a"]) == (0, 1)
    assert math.isnan(row.called["b"])


def test_an_ordered_prediction_is_called_by_class_or_higher():
    bag = _bag("s1", -1)
    row = class_prediction_row(
        bag, class_score(bag, [0.4, 0.35, 0.25], task=ORDERED), task=ORDERED, thresholds=[0.7, 0.2]
    )
    assert (row.label, row.prediction, row.bag_score) == ("", "low", 0.35)
    assert row.called == {"low": 0, "high": 1}
    assert row.probabilities == row.scores


def test_predictions_of_many_classes_come_back(tmp_path: Path):
    bag = _bag("s1", 1)
    row = class_prediction_row(bag, class_score(bag, [0.25, 0.5, 0.25]), task=EXCLUSIVE, thresholds=[0.1] * 3)
    columns = prediction_columns(NAMES, task=EXCLUSIVE)
    write_table(tmp_path / "t.csv", [row], row=PredictionRow, columns=columns)
    assert read_table(tmp_path / "t.csv", PredictionRow) == [row]


def test_a_score_of_two_classes_has_no_row_of_many():
    bag = _bag("s1", 1)
    score = replace(class_score(bag, [0.25, 0.5, 0.25]), class_scores=None)
    with pytest.raises(ValueError, match="slide s1: a score without class_scores"):
        class_prediction_row(bag, score, task=EXCLUSIVE)


def test_results_come_back_as_they_were(tmp_path: Path):
    metrics = BinaryMetrics(0.9, 0.8, 0.7, 0.6, 0.5, 0.25)
    row = ResultRow(_trial("ours", 2), "abc", 3, 17, metrics, op_threshold=0.125, seconds=2.5)
    write_table(tmp_path / "t.csv", [row], row=ResultRow)
    (back,) = read_table(tmp_path / "t.csv", ResultRow)
    assert (back.trial, back.config_hash, back.n_false_positive_bags, back.n_hard, back.metrics) == (
        row.trial, "abc", 3, 17, metrics,
    )  # fmt: skip
    assert (back.op_threshold, back.seconds) == (0.125, 2.5)
    assert math.isnan(back.instance_auc)
    assert back.trial.arm_key == ArmKey("ours", "case", "grid")


def test_hard_negatives_of_a_trial_and_of_a_bundle_come_back(tmp_path: Path):
    mined = HardInstance(1, "0012", "c", 4, 32, 64, 16, 0.5, 0.75, -1, "out-of-fold")
    rows = [HardNegativeRow(_trial("ours+mb", 1), mined), HardNegativeRow(None, mined)]
    write_table(tmp_path / "t.csv", rows, row=HardNegativeRow)
    assert read_table(tmp_path / "t.csv", HardNegativeRow) == rows


def test_a_row_without_a_trial_has_no_key():
    with pytest.raises(ValueError, match="no trial"):
        key_of(prediction_row(_bag("s1", 1), 0.5, classes=CLASSES))
