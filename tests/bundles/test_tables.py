import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.many_classes import EXCLUSIVE, ORDERED, class_score, drawn_class_scores

from hardmil.bags.bag import Bag
from hardmil.bundles.bundle import Card
from hardmil.bundles.tables import (
    CaseRow,
    SlidePredictionRow,
    called,
    case_columns,
    diagnosis_rows,
    slide_columns,
    slide_prediction,
)
from hardmil.bundles.training_profile import profile_of
from hardmil.config.task import TaskConfig
from hardmil.files.csv_table import read_cells, read_table, write_table
from hardmil.mil.bag_score import BagScore
from hardmil.mil.calibration import fit_calibration
from hardmil.mil.class_calibration import fit_class_calibration
from hardmil.mil.class_operating import set_class_operating_points
from hardmil.mil.operating import set_operating_point
from hardmil.pictures.slide_pictures import SlidePictures
from hardmil.report.page_data import SlideDiagnosis

pytestmark = pytest.mark.slow

CLASSES = ("normal", "tumour")
LABELS, SCORES = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9])


def _bag(*, label: int = -1, n: int = 6, size_px: int = 64) -> Bag:
    coords = np.stack([np.arange(n), np.zeros(n)], axis=1).astype(np.int64)
    return Bag("s1", "c1", label, np.ones((n, 4), np.float32), coords, size_px)


def _score(value: float, n: int = 6) -> BagScore:
    return BagScore(value, np.full(n, 1 / n, np.float32), np.zeros(n, np.float32))


def _card(*, decided: bool) -> Card:
    point = set_operating_point(LABELS, SCORES, cases=list("abcd"), target="fpr=0.05") if decided else None
    return Card(
        hardmil="0.1.0",
        fingerprint="abc",
        arm="ours",
        classes=CLASSES,
        threshold=point.threshold.value if point else 0.5,
        instances="features",
        patches=None,
        operating=point,
        calibration=fit_calibration(LABELS, SCORES, method="temperature") if decided else None,
        training_profile=profile_of([_bag(n=100)]),
        training_slides=("s0",),
        n_false_positive_bags=0,
        n_hard=0,
    )


@pytest.mark.parametrize(("score", "call"), [(0.41, "tumour"), (0.4, "normal")])
def test_a_slide_is_called_at_the_operating_point(score: float, call: str):
    card = _card(decided=True)
    assert card.threshold == 0.4
    row = called(_bag(label=1), _score(score), card=card, warnings=["one", "two"])
    assert (row.operating_point, row.threshold, row.warnings) == ("fpr=0.05", 0.4, "one; two")
    prediction = row.prediction
    assert (prediction.trial, prediction.slide_id, prediction.case_id) == (None, "s1", "c1")
    assert (prediction.label, prediction.prediction, prediction.op_prediction) == ("tumour", call, call)
    assert card.calibration is not None
    (chance,) = card.calibration.probabilities(np.array([score]))
    assert prediction.probabilities == pytest.approx({"normal": 1 - chance, "tumour": chance})


def test_without_an_operating_point_only_the_threshold_calls():
    row = called(_bag(), _score(0.75), card=_card(decided=False), warnings=[])
    assert (row.operating_point, row.threshold, row.warnings) == ("", 0.5, "")
    assert (row.prediction.label, row.prediction.prediction, row.prediction.op_prediction) == (
        "", "tumour", "",
    )  # fmt: skip
    assert row.prediction.probabilities == {"normal": 0.25, "tumour": 0.75}


def test_a_slide_says_how_it_differs_from_training_and_what_its_attention_lacks(tmp_path: Path):
    one = slide_prediction(_bag(n=40), _score(0.9, n=40), card=_card(decided=False))
    assert (one.slide_id, one.label, one.bag_score, one.has_coords) == ("s1", -1, 0.9, True)
    (warning,) = [text for text in one.warnings if text.startswith("few patches: 40")]
    assert warning in one.row.warnings
    assert not slide_prediction(_bag(size_px=0), _score(0.9), card=_card(decided=False)).has_coords
    assert [found.finding for found in one.diagnoses] == ["collapsed"], "even attention, called positive"
    rows = diagnosis_rows([one, one])
    assert [(row.slide_id, row.finding) for row in rows] == [("s1", "collapsed")] * 2
    assert rows[0].remedy == one.diagnoses[0].remedy
    write_table(tmp_path / "diagnostics.csv", rows, row=SlideDiagnosis)
    assert read_table(tmp_path / "diagnostics.csv", SlideDiagnosis) == rows


def test_a_slide_without_pictures_is_not_on_the_page_of_key_patches():
    card = _card(decided=False)
    one = slide_prediction(_bag(label=0), _score(0.9), card=card)
    assert one.key_slide(None, card=card) == []
    pictures = SlidePictures(b"", b"", 1, 1, ())
    (shown,) = one.key_slide(pictures, card=card)
    assert (shown.slide_id, shown.call, shown.label, shown.threshold) == ("s1", "tumour", "normal", 0.5)
    assert list(shown.remarks)[: len(one.warnings)] == list(one.warnings)
    assert len(shown.remarks) == len(one.warnings) + len(one.diagnoses)


def test_rows_come_back_from_their_tables(tmp_path: Path):
    slide = called(_bag(label=1), _score(0.75), card=_card(decided=False), warnings=["few patches"])
    path = tmp_path / "predictions.csv"
    write_table(path, [slide], row=SlidePredictionRow, columns=slide_columns(CLASSES))
    assert read_table(path, SlidePredictionRow) == [slide]
    chances = {"normal": 0.25, "tumour": 0.75}
    case = CaseRow("c1", 2, "max", "", 0.75, "tumour", "", chances, "youden", 0.5, "few patches")
    path = tmp_path / "predictions_by_case.csv"
    write_table(path, [case], row=CaseRow, columns=case_columns(CLASSES))
    assert read_table(path, CaseRow) == [case]


def test_columns_are_those_of_the_design():
    assert ",".join(slide_columns(CLASSES)) == (
        "arm,split,patches,repeat,fold,slide_id,case_id,label,bag_score,prediction,op_prediction,"
        "prob_normal,prob_tumour,operating_point,threshold,warnings"
    )
    assert ",".join(case_columns(CLASSES)) == (
        "case_id,n_slides,case_score,label,bag_score,prediction,op_prediction,prob_normal,prob_tumour,"
        "operating_point,threshold,warnings"
    )


def _class_card(*, task: TaskConfig = EXCLUSIVE, decided: bool = True) -> Card:
    labels, scores = np.arange(12) % 3, drawn_class_scores(np.arange(12) % 3)
    cases = [str(i) for i in range(12)]
    points = set_class_operating_points(labels, scores, task=task, cases=cases, target="youden")
    calibration = fit_class_calibration(labels, scores, method="temperature", task=task)
    return _card(decided=False).model_copy(
        update={
            "classes": task.names,
            "task": task,
            "class_operating": points if decided else (),
            "class_calibration": calibration if decided else None,
        }
    )


def test_each_class_is_called_at_its_own_threshold():
    card = _class_card()
    scores = [0.3, 0.5, 0.2]
    row = called(_bag(label=1), class_score(_bag(), scores), card=card, warnings=["few patches"])
    prediction = row.prediction
    assert (prediction.label, prediction.prediction, prediction.bag_score) == ("a", "a", 0.5)
    assert list(row.thresholds.values()) == list(card.thresholds)
    expected = [float(score > limit) for score, limit in zip(scores, card.thresholds, strict=True)]
    assert list(prediction.called.values()) == expected
    assert card.class_calibration is not None
    chances = card.class_calibration.probabilities(np.array([scores]))[0]
    assert list(prediction.probabilities.values()) == chances.tolist()
    assert (row.operating_point, row.warnings) == ("youden", "few patches")


def test_without_operating_points_no_class_is_called():
    row = called(_bag(), class_score(_bag(), [0.1, 0.2, 0.7]), card=_class_card(decided=False), warnings=[])
    assert row.prediction.prediction == "b"
    assert all(math.isnan(value) for value in (*row.prediction.called.values(), *row.thresholds.values()))
    assert list(row.prediction.probabilities.values()) == [0.1, 0.2, 0.7]


@pytest.mark.parametrize("scores", [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], ids=["normal", "lesion"])
def test_even_attention_for_the_predicted_class_is_a_problem_that_names_it(scores: list[float]):
    even = _score(0.9, n=40)
    score = replace(even, class_scores=np.array(scores), branches=(even, even, even))
    one = slide_prediction(_bag(n=40), score, card=_class_card())
    assert [found.finding for found in one.diagnoses] == ["collapsed"]
    pictures = SlidePictures(b"", b"", 1, 1, ())
    (shown,) = one.key_slide(pictures, card=_class_card())
    assert (shown.threshold, shown.shown_class) == (None, EXCLUSIVE.names[int(np.argmax(scores))])


def test_columns_of_ordered_classes_have_calls_and_thresholds_of_the_higher_ones():
    assert ",".join(slide_columns(ORDERED.names, task=ORDERED)) == (
        "arm,split,patches,repeat,fold,slide_id,case_id,label,bag_score,prediction,op_prediction,"
        "prob_benign,prob_low,prob_high,score_benign,score_low,score_high,called_low,called_high,"
        "operating_point,warnings,threshold_low,threshold_high"
    )
    assert ",".join(case_columns(ORDERED.names, task=ORDERED)) == (
        "case_id,n_slides,case_score,label,bag_score,prediction,op_prediction,"
        "prob_benign,prob_low,prob_high,score_benign,score_low,score_high,called_low,called_high,"
        "operating_point,warnings,threshold_low,threshold_high"
    )


def test_rows_of_three_classes_come_back_from_their_tables(tmp_path: Path):
    slide = called(_bag(label=1), class_score(_bag(), [0.25, 0.5, 0.25]), card=_class_card(), warnings=[])
    path = tmp_path / "predictions.csv"
    columns = slide_columns(EXCLUSIVE.names, task=EXCLUSIVE)
    write_table(path, [slide], row=SlidePredictionRow, columns=columns)
    (read,) = read_cells(path)
    assert tuple(read) == columns
    assert read["score_a"] == "0.5"
