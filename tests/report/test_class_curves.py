from pathlib import Path

import numpy as np
from tests.support.evaluations import make_evaluation
from tests.support.many_classes import EXCLUSIVE, class_bags, class_prediction_rows, class_trial_rows
from tests.support.many_labels import MULTI, multi_prediction_rows

from hardmil.config.task import TaskConfig
from hardmil.evaluation.results import PredictionRow
from hardmil.report.class_curves import class_calibration_drawing, class_curve_drawings
from hardmil.statistics.tables import write_statistics


def test_a_curve_of_each_class_with_its_auc(tmp_path: Path):
    rows = class_trial_rows()
    statistics = write_statistics(tmp_path, rows=rows, positive="", seed=0, task=EXCLUSIVE)
    classes = {"classes": list(EXCLUSIVE.names)}
    evaluation = make_evaluation(tmp_path, arms=("ours",), bags=class_bags(), study=classes)
    (drawing,) = class_curve_drawings(
        rows.predictions, arm="ours", statistics=statistics, evaluation=evaluation
    )
    auc = {one.class_name: one.value for one in statistics.intervals if one.metric == "pooled_auc"}
    for name in EXCLUSIVE.names:
        assert f"{name}, AUC {auc[name]:.3f} (" in drawing.alt
    assert (
        class_curve_drawings(rows.predictions, arm="abmil", statistics=statistics, evaluation=evaluation)
        == []
    )


def test_more_classes_than_a_figure_holds_are_drawn_in_several(tmp_path: Path):
    task = TaskConfig(names=tuple("abcdef"))
    rows = class_trial_rows(task=task, n_cases=18)
    statistics = write_statistics(tmp_path, rows=rows, positive="", seed=0, task=task)
    evaluation = make_evaluation(
        tmp_path, arms=("ours",), bags=class_bags(18, n_classes=6), study={"classes": list(task.names)}
    )
    drawings = class_curve_drawings(
        rows.predictions, arm="ours", statistics=statistics, evaluation=evaluation
    )
    assert [one.alt.count("AUC") for one in drawings] == [4, 2]


def test_the_most_likely_class_is_right_as_often_as_its_probability_says():
    rows = class_prediction_rows()
    drawing = class_calibration_drawing(rows, arm="ours", task=EXCLUSIVE)
    assert drawing is not None
    assert "Scores were not calibrated." in drawing.caption
    assert f"Brier score {_brier(rows):.3f}" in drawing.caption
    assert class_calibration_drawing(rows, arm="abmil", task=EXCLUSIVE) is None


def _brier(rows: list[PredictionRow]) -> float:
    """Mean over the repeats, each with as many slides."""
    highest = [max(row.scores, key=lambda name, row=row: row.scores[name]) for row in rows]
    errors = [row.scores[name] - (row.label == name) for row, name in zip(rows, highest, strict=True)]
    return float(np.mean(np.square(errors)))


def test_calibrated_probabilities_are_drawn_with_the_scores():
    rows = [
        PredictionRow(**{**vars(row), "probabilities": dict.fromkeys(EXCLUSIVE.names, 1 / 3)})
        for row in class_prediction_rows()
    ]
    drawing = class_calibration_drawing(rows, arm="ours", task=EXCLUSIVE)
    assert drawing is not None
    assert "calibrated probability: calibration error" in drawing.alt
    assert "raw score: calibration error" in drawing.alt


def test_the_calibration_of_several_labels_is_over_all_classes():
    rows = multi_prediction_rows()
    drawing = class_calibration_drawing(rows, arm="ours", task=MULTI)
    assert drawing is not None
    errors = [row.scores[name] - (name in row.label.split(" + ")) for row in rows for name in MULTI.names]
    assert f"Brier score {np.mean(np.square(errors)):.3f}" in drawing.caption
    assert "all classes" in drawing.caption
