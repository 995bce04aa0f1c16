"""Studies whose slides may have several classes, from the check of the table to hard negatives."""

import json
import math
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.many_labels import MULTI, multi_bags, write_features, write_multi_study
from tests.support.studies import Hardmil, read_csv

from hardmil.bags.slide_table import SlideRow
from hardmil.config.study import StudyConfig
from hardmil.errors import TableError
from hardmil.preprocessing.study_folder import create_study

pytestmark = pytest.mark.slow

SHORT = ("--set", "training.epochs=4", "--quiet")


def _labels(study: Path) -> dict[str, set[str]]:
    """The classes of each slide."""
    return {
        row["slide_id"]: {name for name in MULTI.names if row[name] == "1"}
        for row in read_csv(study / "slides.csv")
    }


def _classes(text: str) -> set[str]:
    return set() if text == "none" else set(text.split(" + "))


def test_evaluate_measures_each_class_and_whole_labels(hardmil: Hardmil, tmp_path: Path):
    study = write_multi_study(tmp_path / "study", n=32, slides_a_case=2)
    arms = "evaluation.arms=[ours, ours+fmb-oof]"
    run = hardmil("evaluate", study, "--set", arms, *SHORT, "--json")
    assert run.code == 0, run.err
    assert "classes, of which a slide may have several: a, b, c" in run.err
    assert "accuracy is the share of slides of which all classes are predicted right" in run.err
    assert "Kappa" not in run.err
    folder, truth = study / "runs" / "main", _labels(study)
    rows = read_csv(folder / "predictions.csv")
    assert {row["arm"] for row in rows} == {"ours", "ours+fmb-oof", "ours+fmb-oof@random"}
    for row in rows:
        assert _classes(row["label"]) == truth[row["slide_id"]]
        scores = {name: float(row[f"score_{name}"]) for name in MULTI.names}
        assert _classes(row["prediction"]) == {name for name, score in scores.items() if score > 0.5}
        assert float(row["bag_score"]) == max(scores.values())
    of_ours = [row for row in rows if row["arm"] == "ours"]
    exact = np.mean([row["label"] == row["prediction"] for row in of_ours])
    summary = {(row["arm"], row["class_name"]): row for row in read_csv(folder / "summary.csv")}
    assert float(summary["ours", "macro"]["pooled_accuracy"]) == pytest.approx(exact)
    means = [float(summary["ours", name]["balanced_accuracy"]) for name in MULTI.names]
    assert float(summary["ours", "macro"]["balanced_accuracy"]) == pytest.approx(np.mean(means))
    assert {row["class_name"] for row in read_csv(folder / "intervals.csv")} == {"macro", *MULTI.names}
    for row in read_csv(folder / "hard_negatives.csv"):
        assert row["hard_for"] not in truth[row["slide_id"]]
    page = (folder / "report.html").read_text(encoding="utf-8")
    n_wrong = sum(row["label"] != row["prediction"] for row in of_ours)
    assert f"Slides with a wrong call: {n_wrong} of 32" in page
    assert len(re.findall(r'<div id="wrong-\d+">', page)) == n_wrong
    assert set(re.findall(r'href="#(wrong-\d+)"', page)) == {f"wrong-{i}" for i in range(n_wrong)}
    with h5py.File(next((folder / "trials").glob("*/attention.h5"))) as file:
        slide = file[next(iter(file))]
        assert list(slide.attrs["classes"]) == list(MULTI.names)
        best = int(np.argmax(slide.attrs["class_scores"]))
        np.testing.assert_array_equal(slide["attention_scores"], slide["attention_by_class"][best])


def test_train_predict_and_mine(hardmil: Hardmil, tmp_path: Path):
    study = write_multi_study(tmp_path / "study")
    trained = hardmil("train", study, "--set", "arm=ours+inject-oof", *SHORT, "--json")
    assert trained.code == 0, trained.err
    assert "trained ours+inject-oof on 24 slides (12 a, 12 b, 12 c) of 24 cases" in trained.err
    assert list(json.loads(trained.out)["class_operating"]) == list(MULTI.names)

    # Two cases: labels 1 and 2, which are a and b; label 3 and an unlabelled slide.
    write_features(tmp_path / "new", multi_bags(6)[1:5])
    table = tmp_path / "new.csv"
    lines = ["slide_id,case_id,a,b,c", "s1,x,1,0,0", "s2,x,0,1,0", "s3,y,1,1,0", "s4,y,,,"]
    table.write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "out"
    options = ["--slides", table, "--features", tmp_path / "new", "--output", out, "--case-score", "max"]
    predicted = hardmil("predict", study / "bundle", *options, "--quiet", "--json")
    assert predicted.code == 0, predicted.err
    values = json.loads(predicted.out)
    rows = read_csv(out / "predictions.csv")
    for name in MULTI.names:
        assert values["predicted"][name] == sum(name in _classes(row["prediction"]) for row in rows)
    assert "kappa" not in values["metrics"]
    assert values["metrics"]["classes"]["c"]["sensitivity"] is None, "no labelled slide has c"
    assert [row["label"] for row in rows] == ["a", "b", "a + b", ""]
    cases = {row["case_id"]: row for row in read_csv(out / "predictions_by_case.csv")}
    assert (cases["x"]["label"], cases["y"]["label"]) == ("a + b", "")
    for name in MULTI.names:
        of_slides = [float(row[f"score_{name}"]) for row in rows if row["case_id"] == "x"]
        assert float(cases["x"][f"score_{name}"]) == max(of_slides)
        assert not math.isnan(float(cases["x"][f"prob_{name}"]))

    mined = hardmil("mine", study, "--quiet")
    assert mined.code == 0, mined.err
    truth = _labels(study)
    for row in read_csv(study / "mined" / "hard_negatives.csv"):
        assert row["hard_for"] in MULTI.names
        assert row["hard_for"] not in truth[row["slide_id"]]


def test_doctor_counts_the_slides_and_cases_of_each_class(hardmil: Hardmil, tmp_path: Path):
    study = write_multi_study(tmp_path / "study", n=16, slides_a_case=2)
    run = hardmil("doctor", study)
    assert run.code == 0, run.err
    assert "study              16 slides (8 a, 8 b, 8 c, 2 none) of 8 cases" in run.out
    assert "class              b: 8 slides of 4 cases" in run.out
    few = hardmil("doctor", study, "--set", "evaluation.folds=5")
    assert few.code == 1
    assert "slides with class a: 4 cases for 5 folds" in few.err


def test_verdicts_may_name_a_class_or_none(hardmil: Hardmil, tmp_path: Path):
    study = write_multi_study(tmp_path / "study", more="seed: 3\n")
    lines = ["slide_id,x,y,verdict", "s1,0,512,a", "s3,0,512,lesion"]
    (study / "verdicts.csv").write_text("\n".join(lines), encoding="utf-8")
    arms = ("--set", "arm=ours+instance+verdicts", "--set", "mining.verdicts=verdicts.csv")
    refused = hardmil("train", study, *arms, *SHORT)
    assert refused.code == 1
    assert "line 3: slide s3 is of class a + b, and a patch of it is called a lesion" in refused.err
    lines[2] = "s3,0,512,none"
    (study / "verdicts.csv").write_text("\n".join(lines), encoding="utf-8")
    trained = hardmil("train", study, *arms, *SHORT)
    assert trained.code == 0, trained.err


def test_verdicts_of_a_review_are_trained_with_and_put_labels_in_doubt(hardmil: Hardmil, tmp_path: Path):
    study = write_multi_study(tmp_path / "study")
    # Slide s1 has a, s3 has a and b, s8 none.
    lines = [
        "slide_id,x,y,verdict",
        "s1,0,512,a",
        "s1,2560,512,b",
        "s3,512,512,b",
        "s8,0,512,a",
        "s8,256,512,none",
        *(f"s{i},2560,512,none" for i in range(10, 20)),
    ]
    (tmp_path / "verdicts.csv").write_text("\n".join(lines), encoding="utf-8")
    taken = hardmil("review", study, "--import", tmp_path / "verdicts.csv", "--reviewer", "jo")
    assert taken.out.startswith("verdicts.csv: 15 verdicts added"), taken.err
    doubts = ("s1: b in a slide labelled a (jo): 1 patch", "s8: a in a slide labelled none (jo): 1 patch")
    doctor = hardmil("doctor", study)
    assert doctor.code == 0, doctor.err
    assert all(doubt in doctor.out for doubt in doubts)
    learns = ("--set", "mining.verdicts=review", "--set", "arm=ours+instance+verdicts")
    trained = hardmil("train", study, *learns, *SHORT)
    assert trained.code == 0, trained.err
    said = trained.err + trained.out
    assert "review: verdicts on 13 patches used: 1 a, 1 b, 0 c, 11 normal, 0 artefact" in said
    assert "review: a class that the label of the slide rules out on 2 patches: not used" in said
    assert all(doubt in said for doubt in doubts)
    arms = ("--set", "evaluation.arms=[ours+instance+verdicts]", "--set", "mining.leave_out_doubted=true")
    evaluated = hardmil("evaluate", study, *learns, *arms, *SHORT)
    assert evaluated.code == 0, evaluated.err
    rows = read_csv(study / "runs" / "main" / "predictions.csv")
    assert {row["slide_id"] for row in rows} == {f"s{i}" for i in range(24)} - {"s1", "s8"}


def test_what_cannot_be_done_with_several_labels_says_so(hardmil: Hardmil, tmp_path: Path):
    study = write_multi_study(tmp_path / "study")
    arm = hardmil("train", study, "--set", "arm=dsmil", *SHORT)
    assert arm.code == 1
    assert "dsmil is for two classes, and the study has 3" in arm.err


def test_a_study_made_in_python_has_the_columns(tmp_path: Path):
    config = StudyConfig(features="feats", classes=MULTI.names, multi_label=True)
    slides = [SlideRow("s0", "c0", "a + c"), SlideRow("s1", "c1", "none"), SlideRow("s2", "c2", "b")]
    study = create_study(tmp_path / "study", slides=slides, config=config)
    assert [row.label for row in study.slide_table.rows] == ["a + c", "none", "b"]
    rows = read_csv(study.folder / "slides.csv")
    assert [[row[name] for name in MULTI.names] for row in rows] == [
        ["1", "0", "1"],
        ["0"] * 3,
        ["0", "1", "0"],
    ]
    with pytest.raises(TableError, match=r'slide s3: label "d"; expected some of a, b, c, joined by " \+ "'):
        create_study(tmp_path / "other", slides=[SlideRow("s3", "c3", "d")], config=config)
    with pytest.raises(TableError, match=r"slide s3: the columns a, b, c are empty; expected 1 or 0 in each"):
        create_study(tmp_path / "third", slides=[SlideRow("s3", "c3")], config=config)
