from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.evaluation.attention_file import read_attention, read_score, write_attention
from hardmil.evaluation.results import HARD_NEGATIVES, prediction_columns, prediction_row, replace_rows
from hardmil.files.csv_table import read_rows, write_rows
from hardmil.mil.inference import BagScore

COLUMNS = ("arm", "split", "patches", "repeat", "fold", "slide_id", "bag_score")


def _trial(arm: str, fold: int) -> dict[str, object]:
    return {"arm": arm, "split": "case", "patches": "grid", "repeat": 0, "fold": fold}


def _put(path: Path, arm: str, fold: int, *slides: str) -> None:
    rows = [{"slide_id": slide, "bag_score": 0.5} for slide in slides]
    replace_rows(path, rows, trial=_trial(arm, fold), columns=COLUMNS)


def _held(path: Path) -> list[tuple[str, str, str]]:
    return [(row["arm"], row["fold"], row["slide_id"]) for row in read_rows(path)]


def test_a_score_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    bag, score = _bag("s1", 1), _score(0.7)
    score = replace(score, contribution=score.attention - 0.2, bias=0.25)
    path = tmp_path / "attention.h5"
    write_attention(path, [bag], scores=[score])
    back = read_score(path, slide_id="s1")
    assert (back.bag_score, back.bias) == (0.7, 0.25)
    assert back.contribution is not None
    np.testing.assert_array_equal(back.contribution, score.contribution)
    np.testing.assert_array_equal(back.instance_logit, score.instance_logit)
    with h5py.File(path, "a") as file:
        for name in ("instance_logits", "contributions"):
            del file["s1"][name]
    old = read_score(path, slide_id="s1")
    assert old.contribution is None
    assert not old.instance_logit.any()


def test_rows_of_a_trial_take_the_place_of_its_old_ones(tmp_path: Path):
    path = tmp_path / "runs" / "predictions.csv"
    assert read_rows(path) == []
    _put(path, "ours", 0, "a", "007")
    _put(path, "abmil", 0, "a")
    _put(path, "ours", 1, "b")
    before = [("ours", "0", "a"), ("ours", "0", "007"), ("abmil", "0", "a"), ("ours", "1", "b")]
    assert _held(path) == before
    _put(path, "ours", 0, "a", "x", "y")
    after = [("ours", "0", "a"), ("ours", "0", "x"), ("ours", "0", "y"), *before[2:]]
    assert _held(path) == after
    _put(path, "abmil", 0)
    assert _held(path) == [row for row in after if row[0] == "ours"]


def test_a_trial_is_told_apart_by_each_of_its_columns(tmp_path: Path):
    path, other = tmp_path / "t.csv", _trial("ours", 0)
    _put(path, "ours", 0, "a")
    for name, value in {"split": "file", "patches": "nuclei", "repeat": 1}.items():
        replace_rows(path, [{"slide_id": name}], trial=other | {name: value}, columns=COLUMNS)
    assert [row["slide_id"] for row in read_rows(path)] == ["a", "split", "patches", "repeat"]


def test_scores_come_back_as_they_were(tmp_path: Path):
    scores = np.array([0.9999999, 0.99999988, 1e-30, 0.1, 1 / 3, 1], np.float32)
    rows = [_trial("ours", i) | {"bag_score": float(score)} for i, score in enumerate(scores)]
    write_rows(tmp_path / "t.csv", rows, columns=COLUMNS)
    read = np.array([row["bag_score"] for row in read_rows(tmp_path / "t.csv")], np.float32)
    np.testing.assert_array_equal(read, scores)
    assert read_rows(tmp_path / "t.csv")[3]["slide_id"] == ""


def test_text_of_any_kind_comes_back(tmp_path: Path):
    slides = ["0012", 'a "b", c', "ü;ß"]
    _put(tmp_path / "t.csv", "ours", 0, *slides)
    assert [slide for _, _, slide in _held(tmp_path / "t.csv")] == slides


def test_undefined_metrics_come_back_as_nan(tmp_path: Path):
    write_rows(tmp_path / "t.csv", [_trial("ours", 0) | {"bag_score": float("nan")}], columns=COLUMNS)
    assert np.isnan(float(read_rows(tmp_path / "t.csv")[0]["bag_score"]))


def _bag(slide_id: str, label: int, n: int = 3) -> Bag:
    coords = np.arange(2 * n).reshape(n, 2)
    return Bag(slide_id, "c1", label, np.zeros((n, 2), np.float32), coords, 16)


def _score(value: float, n: int = 3) -> BagScore:
    return BagScore(value, np.linspace(0.1, 0.5, n), np.zeros(n))


@pytest.mark.parametrize(("value", "prediction"), [(0.75, "tumour"), (0.5, "normal"), (0.25, "normal")])
def test_predictions_speak_of_classes(value: float, prediction: str):
    row = prediction_row(_bag("s1", 1), value, classes=("normal", "tumour"))
    assert row == {
        "slide_id": "s1",
        "case_id": "c1",
        "label": "tumour",
        "bag_score": value,
        "prediction": prediction,
        "op_prediction": "",
        "prob_normal": 1 - value,
        "prob_tumour": value,
    }
    assert set(row) < set(prediction_columns(("normal", "tumour")))


def test_predictions_of_slides_without_a_label_and_with_another_threshold():
    row = prediction_row(_bag("s1", -1), 0.3, classes=("normal", "tumour"), threshold=0.2)
    assert (row["label"], row["prediction"]) == ("", "tumour")


def test_the_operating_point_has_a_column_of_its_own():
    bag, classes = _bag("s1", 1), ("normal", "tumour")
    row = prediction_row(bag, 0.3, classes=classes, op_threshold=0.2)
    assert (row["prediction"], row["op_prediction"]) == ("normal", "tumour")
    row = prediction_row(bag, 0.2, classes=classes, op_threshold=0.2)
    assert row["op_prediction"] == "normal"


def test_attention_is_read_back(tmp_path: Path):
    path, bags = tmp_path / "attention.h5", [_bag("a", 0), _bag("b", 1, 5)]
    write_attention(path, bags, scores=[_score(0.2), _score(0.8, 5)])
    attention, coords = read_attention(path, slide_id="b")
    np.testing.assert_array_equal(attention, np.linspace(0.1, 0.5, 5))
    np.testing.assert_array_equal(coords, bags[1].coords)


def test_columns_are_those_of_the_design():
    assert ",".join(HARD_NEGATIVES) == (
        "arm,split,patches,repeat,fold,round,slide_id,case_id,instance,x,y,size_level0,attention,bag_score,"
        "cluster,source"
    )
    assert ",".join(prediction_columns(("a", "b"))) == (
        "arm,split,patches,repeat,fold,slide_id,case_id,label,bag_score,prediction,op_prediction,"
        "prob_a,prob_b"
    )
