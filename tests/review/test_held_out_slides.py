import math
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.class_reviews import class_review as class_review
from tests.support.class_reviews import evaluated_class_study
from tests.support.class_reviews import multi_review as multi_review
from tests.support.reviews import N_PATCHES, SIZE, evaluated_study
from tests.support.studies import read_csv, write_csv

from hardmil.errors import ConfigError
from hardmil.evaluation.results import ResultRow
from hardmil.files.csv_table import read_table
from hardmil.preprocessing.study_folder import Study, open_study
from hardmil.report.evaluation_run import evaluate
from hardmil.review.held_out_slides import each_patches, read_held_out, read_patches

pytestmark = pytest.mark.slow


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
        assert slide.calls[0].threshold == thresholds[int(row["fold"])]
        assert slide.prediction == ("tumour" if slide.bag_score > slide.calls[0].threshold else "normal")
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


def test_labels_that_were_renamed_are_said(study: Study):
    rows = [
        row | {"label": row["label"].replace("tumour", "cancer")}
        for row in read_csv(study.folder / "slides.csv")
    ]
    write_csv(study.folder / "slides.csv", rows)
    with pytest.raises(
        ConfigError, match=r"evaluation of .*tumour.*; expected .* normal, cancer, in this order; run"
    ):
        read_held_out(open_study(study.folder))


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


def test_with_many_classes_each_branch_has_its_call(class_review: Study):
    found = read_held_out(class_review)
    rows = {row["slide_id"]: row for row in read_csv(class_review.folder / "runs/main/predictions.csv")}
    assert len(found.slides) == len(rows) == 24
    for slide in found.slides:
        row = rows[slide.slide_id]
        assert slide.prediction == row["prediction"]
        scores = {name: float(row[f"score_{name}"]) for name in found.classes}
        for name, call in zip("ab", slide.calls, strict=True):
            rival = max(value for other, value in scores.items() if other != name)
            assert call.score == pytest.approx(scores[name])
            assert call.margin == pytest.approx(scores[name] - rival)
            assert call.is_called == (slide.prediction == name) == (call.margin > 0)
            assert call.is_yes == (slide.label == name)
            assert (call.score > call.threshold) == (row[f"called_{name}"] == "1")
        kinds = {(True, False): "false positive", (False, True): "false negative"}
        pair = (slide.label == "normal", slide.prediction == "normal")
        assert slide.error == ("" if slide.prediction == slide.label else kinds.get(pair, "wrong class"))
        assert (slide.surprise > 0) == bool(slide.error)


def test_patches_by_branch_are_those_of_the_class(class_review: Study):
    found = read_held_out(class_review)
    slide = found.slides[4]
    by_branch = read_patches(slide)
    shown = by_branch[found.shown_branch(slide)]
    with h5py.File(slide.attention_file) as file:
        np.testing.assert_array_equal(shown.attention, file[f"{slide.slide_id}/attention_scores"])
        np.testing.assert_array_equal(
            by_branch[1].logit, file[f"{slide.slide_id}/instance_logits_by_class"][1]
        )
    relative = read_patches(slide, is_relative=True)
    np.testing.assert_allclose(relative[0].logit, (by_branch[0].logit - by_branch[1].logit) / 2, rtol=1e-4)
    np.testing.assert_array_equal(relative[0].attention, by_branch[0].attention)


def test_ordered_classes_are_too_high_or_too_low(tmp_path: Path):
    found = read_held_out(evaluated_class_study(tmp_path / "study", ordinal=True))
    position = {name: number for number, name in enumerate(found.classes)}
    assert any(slide.error for slide in found.slides)
    for slide in found.slides:
        steps = position[slide.prediction] - position[slide.label]
        assert slide.error == ("too high" if steps > 0 else "too low" if steps < 0 else "")
        assert [call.is_called for call in slide.calls] == [position[slide.prediction] >= k for k in (1, 2)]
        assert [call.is_yes for call in slide.calls] == [position[slide.label] >= k for k in (1, 2)]


def test_an_evaluation_of_other_classes_is_refused(class_review: Study, study: Study):
    def changed(text: str) -> Study:
        config = class_review.config.model_copy(update={"classes": ("normal", "b", "a")})
        assert text in config.task.names
        table = replace(class_review.slide_table, classes=("normal", "b", "a"))
        return replace(class_review, config=config, slide_table=table)

    with pytest.raises(
        ConfigError, match=r"evaluation of normal, a, b; expected .* normal, b, a, in this order"
    ):
        read_held_out(changed("b"))
    with pytest.raises(
        ConfigError,
        match=r"is an evaluation of (normal|tumour).*; expected the classes of the study, normal, a, b",
    ):
        read_held_out(replace(class_review, folder=study.folder))


def test_each_class_of_several_labels_is_called_for_itself(multi_review: Study):
    found = read_held_out(multi_review)
    rows = {row["slide_id"]: row for row in read_csv(multi_review.folder / "runs/main/predictions.csv")}
    table = {row["slide_id"]: row for row in read_csv(multi_review.folder / "slides.csv")}
    assert {slide.error for slide in found.slides} == {"", "false positive", "false negative", "wrong class"}
    assert not found.is_relative
    for number, slide in enumerate(found.slides):
        row, called = rows[slide.slide_id], set(slide.prediction.split(" + ")) - {"none"}
        assert slide.label == row["label"]
        assert found.label(slide) == number % 8
        assert slide.bag_score == pytest.approx(max(call.score for call in slide.calls))
        added = missed = False
        for name, call in zip("abc", slide.calls, strict=True):
            assert call.score == pytest.approx(float(row[f"score_{name}"]))
            assert call.is_called == (name in called) == (call.score > 0.5) == (call.margin > 0)
            assert call.is_yes == (table[slide.slide_id][name] == "1")
            assert (call.is_alarm, call.is_miss) == (
                call.is_called and not call.is_yes,
                call.is_yes and not call.is_called,
            )
            added, missed = added or call.is_alarm, missed or call.is_miss
        kinds = {
            (True, False): "false positive",
            (False, True): "false negative",
            (True, True): "wrong class",
        }
        assert slide.error == kinds.get((added, missed), "")
        assert (slide.surprise > 0) == bool(slide.error)


def test_the_branch_shown_first_is_that_of_the_attention(multi_review: Study):
    found = read_held_out(multi_review)
    for slide in found.slides:
        shown = read_patches(slide)[found.shown_branch(slide)]
        with h5py.File(slide.attention_file) as file:
            np.testing.assert_array_equal(shown.attention, file[f"{slide.slide_id}/attention_scores"])


def test_a_study_that_took_several_labels_since_its_evaluation_is_refused(
    multi_review: Study, tmp_path: Path
):
    folder = shutil.copytree(multi_review.folder, tmp_path / "study")
    rows = [{"slide_id": f"s{i}", "case_id": f"c{i}", "label": "abc"[i % 3]} for i in range(24)]
    write_csv(folder / "slides.csv", rows)
    text = (folder / "study.yaml").read_text(encoding="utf-8")
    (folder / "study.yaml").write_text(text.replace("multi_label: true\n", ""), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"evaluation of several classes .*; expected one class for each slide"
    ):
        read_held_out(open_study(folder))
    exclusive = open_study(folder, overrides=["evaluation.arms=[ours]", "training.epochs=1"])
    evaluate(exclusive, name="exclusive", quiet=True)
    assert len(read_held_out(exclusive, run="exclusive").slides) == 24
    several = replace(multi_review, folder=folder)
    with pytest.raises(
        ConfigError, match=r"evaluation of one class .*; expected several classes for a slide"
    ):
        read_held_out(several, run="exclusive")


def test_slides_that_were_all_called_one_class_are_read(multi_review: Study, tmp_path: Path):
    folder = shutil.copytree(multi_review.folder, tmp_path / "study")
    path = folder / "runs" / "main" / "predictions.csv"
    write_csv(path, [row | {"prediction": "b"} for row in read_csv(path)])
    found = read_held_out(open_study(folder))
    assert {slide.prediction for slide in found.slides} == {"b"}
