import math
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.reviews import N_PATCHES, SIZE, evaluated_study
from tests.support.studies import read_csv, write_csv

from hardmil.errors import ConfigError
from hardmil.evaluation.results import ResultRow
from hardmil.files.csv_table import read_table
from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.review.held_out_slides import each_patches, read_held_out, read_patches


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return evaluated_study(tmp_path_factory.mktemp("review") / "study")


@pytest.fixture
def study(made: Study, tmp_path: Path) -> Study:
    """A copy that a test may change."""
    shutil.copytree(made.folder, tmp_path / "study")
    return open_study(tmp_path / "study")


def test_scores_and_errors_are_those_of_the_evaluation(study: Study):
    found = read_held_out(study)
    assert (found.run, found.arm, found.classes) == ("main", "ours", ("normal", "tumour"))
    run = study.folder / "runs" / "main"
    rows = {row["slide_id"]: row for row in read_csv(run / "predictions.csv") if row["arm"] == "ours"}
    results = [row for row in read_table(run / "results.csv", ResultRow) if row.trial.arm == "ours"]
    thresholds = {row.trial.fold: row.op_threshold for row in results}
    errors = {("normal", "tumour"): "false positive", ("tumour", "normal"): "false negative"}
    for slide in found.slides:
        row = rows[slide.slide_id]
        assert slide.bag_score == pytest.approx(float(row["bag_score"]))
        assert slide.threshold == thresholds[int(row["fold"])]
        assert slide.prediction == ("tumour" if slide.bag_score > slide.threshold else "normal")
        assert slide.error == errors.get((slide.label, slide.prediction), "")
        assert (slide.n_patches, slide.size_level0) == (N_PATCHES, SIZE)
    assert found.notes == []


def test_another_arm_is_taken_where_that_of_the_study_was_not_evaluated(study: Study):
    assert read_held_out(open_study(study.folder, overrides=["arm=ours+fmb"])).arm == "abmil"
    assert read_held_out(open_study(study.folder, overrides=["arm=abmil"])).arm == "abmil"


def test_each_slide_is_read_once_with_its_own_patches(study: Study):
    slides = read_held_out(study).slides
    numbers: list[int] = []
    for number, (patches,) in each_patches(slides):
        numbers.append(number)
        (alone,) = read_patches(slides[number])
        np.testing.assert_array_equal(patches.attention, alone.attention)
        np.testing.assert_array_equal(patches.coords, alone.coords)
        assert math.isclose(float(patches.attention.sum()), 1, abs_tol=1e-5)
    assert sorted(numbers) == list(range(24))


def test_a_corrected_label_counts(study: Study):
    rows = read_csv(study.folder / "slides.csv")
    wrong = next(one for one in read_held_out(study).slides if one.error == "false positive")
    for row in rows:
        row["label"] = "tumour" if row["slide_id"] == wrong.slide_id else row["label"]
    write_csv(study.folder / "slides.csv", rows)
    again = {one.slide_id: one for one in read_held_out(open_study(study.folder)).slides}
    assert (again[wrong.slide_id].label, again[wrong.slide_id].error) == ("tumour", "")


def test_slides_that_left_the_study_or_were_not_held_out_are_left_out(study: Study):
    rows = [row for row in read_csv(study.folder / "slides.csv") if row["slide_id"] != "s5"]
    write_csv(study.folder / "slides.csv", [*rows, {"slide_id": "new", "case_id": "new", "label": "normal"}])
    found = read_held_out(open_study(study.folder))
    assert [slide.slide_id for slide in found.slides] == [f"s{i}" for i in range(24) if i != 5]
    assert found.notes == ["23 of 24 slides were held out"]
    write_csv(study.folder / "slides.csv", [row | {"slide_id": row["slide_id"] + "x"} for row in rows])
    with pytest.raises(ConfigError, match=r"predictions of s8, .*; expected slides such as s0x; run"):
        read_held_out(open_study(study.folder))


def test_old_files_and_unknown_places(study: Study):
    slide = read_held_out(study).slides[0]
    with h5py.File(slide.attention_file, "a") as file:
        group = file[slide.slide_id]
        assert isinstance(group, h5py.Group)
        del group["instance_logits"], group["contributions"]
        group.attrs["patch_size_level0"] = 0
    found = read_held_out(study)
    assert found.slides[0].size_level0 == 0
    assert found.notes == ["the places of the patches of s0 are unknown: they cannot be shown"]
    (patches,) = read_patches(found.slides[0])
    assert np.isnan(patches.logit).all()
    assert np.isnan(patches.contribution).all()


def test_attention_that_was_deleted_is_said(study: Study):
    path = read_held_out(study).slides[0].attention_file
    path.unlink()
    with pytest.raises(
        ConfigError, match=r"attention\.h5: there is no such file; .*remove its folder and run"
    ):
        read_held_out(study)
