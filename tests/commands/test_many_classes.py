"""Studies of more than two classes, from training to predictions and hard negatives."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.many_classes import class_bags, write_class_study
from tests.support.studies import Hardmil, read_csv

pytestmark = pytest.mark.slow

SHORT = ("--set", "training.epochs=4", "--quiet")


def _new_slides(folder: Path, names: list[str]) -> Path:
    """Slides of two cases: one with slides of two classes, one with an unlabelled slide."""
    (folder / "new").mkdir()
    lines = ["slide_id,case_id,label"]
    for i, (bag, case) in enumerate(zip(class_bags(6)[1:5], "xxyy", strict=True)):
        with h5py.File(folder / "new" / f"n{i}.h5", "w") as file:
            file["features"] = bag.instances
            file.create_dataset("coords", data=bag.coords).attrs["patch_size_level0"] = 256
        lines.append(f"n{i},{case},{names[bag.label] if i != 3 else ''}")
    (folder / "new.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "new.csv"


@pytest.mark.parametrize("ordinal", [False, True], ids=["exclusive", "ordered"])
def test_train_predict_and_mine(hardmil: Hardmil, tmp_path: Path, ordinal: bool):
    study = write_class_study(tmp_path / "study", ordinal=ordinal)
    names = ["benign", "low", "high"] if ordinal else ["normal", "a", "b"]
    asked = names[1:]
    trained = hardmil("train", study, "--set", "arm=ours+inject-oof", *SHORT, "--json")
    assert trained.code == 0, trained.err
    said = json.loads(trained.out)
    assert (said["classes"], list(said["class_operating"])) == (names, asked)
    assert f"trained ours+inject-oof on 18 slides (6 {names[0]}, 6 {names[1]}, 6 {names[2]})" in trained.err
    assert f"{names[2]}: threshold " in trained.err
    assert "nothing to do" in hardmil("train", study, "--set", "arm=ours+inject-oof", *SHORT).out

    out, table = tmp_path / "out", _new_slides(tmp_path, names)
    options = ["--slides", table, "--features", tmp_path / "new", "--output", out, "--case-score", "max"]
    predicted = hardmil("predict", study / "bundle", *options, "--quiet", "--json")
    assert predicted.code == 0, predicted.err
    values = json.loads(predicted.out)
    assert sum(values["predicted"].values()) == 4
    assert ("kappa" in values["metrics"]) == ordinal
    assert list(values["metrics"]["classes"]) == asked
    rows = read_csv(out / "predictions.csv")
    for row in rows:
        assert sum(float(row[f"prob_{name}"]) for name in names) == pytest.approx(1)
        assert {row[f"called_{name}"] for name in asked} <= {"0", "1"}
    cases = {row["case_id"]: row for row in read_csv(out / "predictions_by_case.csv")}
    assert cases["x"]["label"] == ("high" if ordinal else ""), "slides of two lesions, or of low and high"
    assert cases["x"]["case_score"] == "max"

    mined = hardmil("mine", study, "--quiet")
    assert mined.code == 0, mined.err
    hard = read_csv(study / "mined" / "hard_negatives.csv")
    labels = {row["slide_id"]: row["label"] for row in read_csv(study / "slides.csv")}
    assert {row["hard_for"] for row in hard} <= set(asked)
    assert [row for row in hard if labels[row["slide_id"]] == row["hard_for"]] == []


def test_attention_of_each_class_is_in_the_file(hardmil: Hardmil, tmp_path: Path):
    study = write_class_study(tmp_path / "study", n=9, more="seed: 1\n")
    assert hardmil("train", study, *SHORT).code == 0
    features = ["--features", study / "feats", "--slides", study / "slides.csv"]
    run = hardmil("predict", study / "bundle", *features, "--output", tmp_path / "out", "--quiet")
    assert run.code == 0, run.err
    with h5py.File(tmp_path / "out" / "attention" / "s1.h5") as file:
        found = np.asarray(file["s1/attention_by_class"])
        assert list(file["s1"].attrs["classes"]) == ["a", "b"]
    assert found.shape[0] == 2
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_a_bundle_of_other_classes_does_not_mine(hardmil: Hardmil, tmp_path: Path):
    study = write_class_study(tmp_path / "study", n=9)
    assert hardmil("train", study, *SHORT).code == 0
    text = (study / "study.yaml").read_text(encoding="utf-8")
    ordered = text.replace("negative: normal", "ordinal: true")
    (study / "study.yaml").write_text(ordered, encoding="utf-8")
    run = hardmil("mine", study, "--quiet")
    assert run.code == 1
    assert (
        "its classes are normal, a, b (negative: normal); those of the study are normal, a, b (ordered)"
        in (run.err)
    )


@pytest.mark.parametrize(
    ("label", "option", "message"),
    [
        ("c", [], r"label 'c'; the bundle knows 'normal', 'a' and 'b'; correct the table"),
        ("a", ["--class", "c"], r"--class c: expected one of a, b, or all"),
        ("a", ["--class", "normal"], r"or all; normal is the negative class, for which nothing speaks"),
    ],
)
def test_unknown_classes_are_refused(
    hardmil: Hardmil, tmp_path: Path, label: str, option: list[str], message: str
):
    study = write_class_study(tmp_path / "study", n=9)
    assert hardmil("train", study, *SHORT).code == 0
    table = tmp_path / "new.csv"
    table.write_text(f"slide_id,case_id,label\ns1,c1,{label}\n", encoding="utf-8")
    options = ["--slides", table, "--features", study / "feats", *option]
    run = hardmil("predict", study / "bundle", *options, "--output", tmp_path / "out", "--quiet")
    assert run.code == 1
    assert message in run.err
