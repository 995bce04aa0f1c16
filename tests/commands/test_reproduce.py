"""`reproduce` on the real sets: a short run, rows as it goes, the paper's table next to ours."""

import json
import re
from pathlib import Path

import pytest
from tests.support.published import write_synthetic_colon
from tests.support.studies import Hardmil, read_csv

pytestmark = pytest.mark.slow

SHORT = ("--folds", "2", "--repeats", "1", "--epochs", "1", "--only-folds", "0")


def test_colon_by_group(hardmil: Hardmil, data_dir: Path, tmp_path: Path) -> None:
    data = data_dir / "CRCHistoPhenotypes_2016_04_28"
    call = ("reproduce", "colon", "--data", data, "--output", tmp_path, "--split", "group", *SHORT)
    first = hardmil(*call, "--arms", "ours,ours+fmb", "--json")
    assert first.code == 0, first.err
    assert re.search("img76: no patch .*25% tissue.* 324", first.text)
    assert re.search("3 arms x 1 repeats x 1 folds.*at most .* patch visits, about", first.err)
    assert ".906 ±.007" in first.text, "the paper's accuracy of ours"
    assert ".036 ±.007" in first.text, "the paper's FPR of FMB"
    for text in (first.text, (tmp_path / "report.html").read_text(encoding="utf-8")):
        assert re.search("41 cases are fields of at most 9 patients.*intervals are too narrow", text)
    assert {row["other"] for row in read_csv(tmp_path / "comparisons.csv")} == {"ours", "ours+fmb@random"}
    arms = json.loads(first.out)["arms"]
    assert [(one["arm"], one["n_trials"]) for one in arms] == [
        ("ours", 1),
        ("ours+fmb", 1),
        ("ours+fmb@random", 1),
    ], "the control is run although it is not named"
    rows = read_csv(tmp_path / "results.csv")
    again = hardmil(*call, "--arms", "abmil")
    assert again.code == 0, again.err
    assert read_csv(tmp_path / "results.csv")[: len(rows)] == rows, "rows under an equal hash are kept"
    assert "ours+fmb" in again.text, "arms of an earlier call stay in the table"
    folds = {row["slide_id"] for row in read_csv(tmp_path / "predictions.csv")}
    assert 40 <= len(folds) <= 60
    assert (tmp_path / "report.html").exists()


def test_ucsb_by_image(hardmil: Hardmil, data_dir: Path, tmp_path: Path) -> None:
    data = data_dir / "ucsb_breast"
    run = hardmil(
        "reproduce", "ucsb", "--data", data, "--output", tmp_path, "--arms", "gated", *SHORT, "--json"
    )  # fmt: skip
    assert run.code == 0, run.err
    assert ".755 ±.016" in run.text, "the paper's accuracy of the gated MIL model"
    assert re.search("Each image .* a case", run.text)
    assert len(read_csv(tmp_path / "predictions.csv")) == 29


def test_colon_with_an_encoder_and_verdicts_of_its_nuclei(
    hardmil: Hardmil, data_dir: Path, tmp_path: Path
) -> None:
    data = data_dir / "CRCHistoPhenotypes_2016_04_28"
    settings = ("--set", "encode_px=32", "--set", "evaluation.operating_folds=2")
    arms = "ours,ours+instance+verdicts-5-random"
    run = hardmil(
        *("reproduce", "colon", "--data", data, "--output", tmp_path, "--split", "group", *SHORT),
        *("--encoder", "efficientnet-lite0", *settings, "--arms", arms),
    )
    assert run.code == 0, run.err
    assert re.search("img76: no patch .*25% tissue.* 100", run.text)
    assert re.search("grid-efficientnet-lite0.* 2 folds .*1 repeats, 1 epochs", run.text)
    for row in read_csv(tmp_path / "results.csv"):
        assert row["patches"] == "grid-efficientnet-lite0"
        assert 0 < float(row["op_threshold"]) < 1
        assert 0 < float(row["instance_auc"]) < 1
    for row in read_csv(tmp_path / "predictions.csv"):
        assert row["op_prediction"] in ("normal", "epithelial")
    (folder,) = tmp_path.glob("features_*")
    assert len(list(folder.glob("img*.h5"))) == 100


def test_the_cost_is_printed_before_a_run_and_not_where_nothing_is_left(hardmil: Hardmil, tmp_path: Path):
    data = write_synthetic_colon(tmp_path / "colon", n=8, n_positive=4)
    call = ("reproduce", "colon", "--data", data, "--output", tmp_path / "out", "--json", *SHORT[:4])
    first = hardmil(*call, "--epochs", "9", "--arms", "ours,ours+mb", "--set", "network.embedding_dim=8")
    assert first.code == 0, first.err
    size = r"3 arms x 1 repeats x 2 folds, 6 of 6 trials to run: at most [\d,]+ patch visits, about .* at .*"
    assert re.search(size, first.err)
    assert re.search("a smaller run: --repeats 1 --folds 2 --epochs 3 takes about", first.err)
    assert "patch visits" not in first.out
    assert len(json.loads(first.out)["arms"]) == 3
    again = hardmil(*call, "--epochs", "9", "--arms", "ours,ours+mb", "--set", "network.embedding_dim=8")
    assert (again.code, "patch visits" in again.err) == (0, False)
    quiet = hardmil(*call, "--epochs", "1", "--arms", "ours", "--quiet")
    assert (quiet.code, "patch visits" in quiet.err) == (0, False)


def test_unknown_sets_and_splits_are_refused(hardmil: Hardmil, tmp_path: Path) -> None:
    assert "colon or ucsb" in hardmil("reproduce", "lung", "--data", tmp_path).err
    assert "no such folder" in hardmil("reproduce", "colon", "--data", tmp_path / "x").err
    assert "expected the colon set" in hardmil("reproduce", "colon", "--data", tmp_path).err
    split = hardmil("reproduce", "ucsb", "--data", tmp_path, "--split", "patient")
    assert "image or group" in split.err
    nuclei = hardmil("reproduce", "ucsb", "--data", tmp_path, "--patches", "nuclei")
    assert "no annotated nuclei" in nuclei.err
