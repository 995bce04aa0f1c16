"""What users give by mistake: each is named in words, and nothing else is lost."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from tests.support.studies import Hardmil, quick, read_csv, slide_rows, write_csv

from hardmil.bundles.bundle import read_card


def test_bad_slides_are_listed_and_the_others_processed(hardmil: Hardmil, study: Path) -> None:
    rows = slide_rows(study)
    (study / "slides" / "broken.png").write_bytes(b"no picture at all")
    Image.fromarray(np.full((150, 210, 3), 255, np.uint8)).save(study / "slides" / "white.png")
    bad = [
        {"slide_id": "broken", "case_id": "x", "label": "normal", "path": "slides/broken.png"},
        {"slide_id": "white", "case_id": "y", "label": "normal", "path": "slides/white.png"},
        {"slide_id": "gone", "case_id": "z", "label": "tumour", "path": "slides/gone.svs"},
    ]
    write_csv(study / "slides.csv", [*bad, *rows])
    patched = hardmil("patch", study, "--json")
    assert patched.code == 1
    said = json.loads(patched.out)
    assert set(said["failures"]) == {"broken", "gone"}
    assert said["empty"] == ["white"]
    assert "2 failed" in patched.err
    failed = {row["name"] for row in read_csv(study / "patches" / "failures.csv")}
    assert failed == {"broken", "gone"}
    encoded = hardmil("encode", study)
    assert encoded.code == 1
    assert len(list((study / "features_pixels").glob("*.h5"))) == 9
    trained = hardmil("train", study, *quick("training.epochs=1"), "--set", "arm=ours", "--json")
    assert trained.code == 1
    why = json.loads(trained.out)["failures"]["broken"]
    assert why.startswith("slide broken: it has no bag, because encode failed: ")
    assert re.search(
        r"broken\.png: .*not an image in a supported format.*; then run again: hardmil encode$", why
    )
    assert json.loads(trained.out)["slides"] == 8
    assert "white" in trained.text
    assert len(read_card(study / "bundle").training_slides) == 8


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("slide_id,case_id,path\na,1,a.png\n", "no column label"),
        ("slide_id,case_id,label,path\na,1,0,a.png\nb,2,0,b.png\n", "2 slides"),
        ("slide_id,case_id,label,path\na,1,0,a.png\na,1,1,a.png\n", 'slide a is labelled "1"'),
        (
            "slide_id,case_id,label,path\na,1,0,a.png\nb,2,1,b.png\na,1,0,c.png\n",
            "slide a is listed twice",
        ),
        (
            "slide_id,case_id,label,path\na,1,0,a.png\nb,2,1,b.png\nc,3,2,c.png\n",
            "3 labels: 0 (1), 1 (1), 2 (1)",
        ),
        ("slide_id,case_id,label,path\n", "header"),
        ("slide_id,Ward,label,path\na,1,0,a.png\n", "no column of cases; found slide_id, Ward, label, path"),
    ],
)
def test_wrong_tables(hardmil: Hardmil, study: Path, table: str, message: str) -> None:
    (study / "slides.csv").write_text(table, encoding="utf-8")
    run = hardmil("patch", study)
    assert run.code == 1
    assert "slides.csv" in run.err
    assert message in run.err
    assert "Traceback" not in run.err


def test_slides_are_cases_only_where_the_study_says_so(hardmil: Hardmil, study: Path) -> None:
    rows = [{"Ward": row.pop("case_id"), **row} for row in read_csv(study / "slides.csv")]
    write_csv(study / "slides.csv", rows)
    message = "slides.csv: no column of cases; found Ward, slide_id, label, path; expected case_id"
    for command in ("patch", "encode", "train", "evaluate"):
        run = hardmil(command, study)
        assert run.code == 1
        assert message in run.err
    checked = hardmil("doctor", study, "--json")
    assert checked.code == 1
    assert message in checked.out
    settings = (study / "study.yaml").read_text(encoding="utf-8")
    (study / "study.yaml").write_text("cases: slide\n" + settings, encoding="utf-8")
    assert "8 slides (4 normal, 4 tumour) of 8 cases" in hardmil("doctor", study).text


def test_ids_keep_leading_zeros_and_inner_spaces(hardmil: Hardmil, study: Path) -> None:
    assert hardmil("encode", study).code == 0
    assert (study / "features_pixels" / "007 a.h5").exists()


def test_missing_study_and_unknown_keys(hardmil: Hardmil, study: Path, tmp_path: Path) -> None:
    missing = hardmil("train", tmp_path / "nowhere")
    assert missing.code == 1
    assert "hardmil init" in missing.err
    wrong = hardmil("train", study, "--set", "mining.n_cluster=3")
    assert wrong.code == 1
    assert "did you mean mining.n_clusters?" in wrong.err


def test_train_before_encode_names_the_missing_step(hardmil: Hardmil, study: Path) -> None:
    run = hardmil("train", study)
    assert run.code == 1
    assert "run: hardmil encode" in run.err


def test_bags_made_with_other_settings_are_refused(hardmil: Hardmil, study: Path) -> None:
    assert hardmil("encode", study).code == 0
    run = hardmil("train", study, "--set", "patches.size_px=32")
    assert run.code == 1
    assert re.search("other `patches` or `encode`.*hardmil encode", run.err)


def test_patches_too_large_for_the_patch_network_name_encode(hardmil: Hardmil, study: Path) -> None:
    setting = ("--set", "patches.size_px=56")
    assert hardmil("encode", study, *setting).code == 0
    run = hardmil("train", study, *setting)
    assert run.code == 1
    assert "56 px" in run.err
    assert "24 to 48" in run.err


def test_slides_without_resolution_get_two_remedies(hardmil: Hardmil, study: Path) -> None:
    run = hardmil("patch", study, "--set", "patches.um_per_px=0.5", "--json")
    assert run.code == 1
    message = json.loads(run.out)["failures"]["000 a"]
    assert "mpp column" in message
    assert "um_per_px: null" in message
    assert "--mpp" in message
    assert hardmil("patch", study, "--set", "patches.um_per_px=0.5", "--mpp", "0.25").code == 0
    with h5py.File(study / "patches" / "000 a_patches.h5") as file:
        assert file["coords"].attrs["mpp_from"] == "--mpp"


def test_a_flag_that_changes_pixels_makes_other_files(hardmil: Hardmil, study: Path) -> None:
    assert hardmil("encode", study, "--icc").code == 0
    run = hardmil("train", study, *quick())
    assert run.code == 1
    assert re.search("other `patches` or `encode`.*hardmil encode", run.err)


def test_a_bundle_of_another_version_is_refused(hardmil: Hardmil, feature_study: Path) -> None:
    assert hardmil("train", feature_study, "--set", "training.epochs=1").code == 0
    path = feature_study / "bundle" / "bundle.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(card | {"format": 99}), encoding="utf-8")
    run = hardmil("predict", feature_study / "bundle", "x.svs", "--features", feature_study / "feats")
    assert run.code == 1
    assert "bundle format 99" in run.err


def test_predict_names_what_the_bundle_needs(hardmil: Hardmil, feature_study: Path, tmp_path: Path) -> None:
    hardmil("train", feature_study, "--set", "training.epochs=1")
    bundle = feature_study / "bundle"
    assert "--features DIR" in hardmil("predict", bundle, "x.svs").err
    assert "no bundle.json" in hardmil("predict", tmp_path, "x.svs").err
    both = hardmil("predict", bundle, "x", "--slides", "t.csv", "--features", feature_study / "feats")
    assert "--slides" in both.err


def test_a_resolution_that_no_scan_has_is_refused(hardmil: Hardmil, study: Path, feature_study: Path) -> None:
    expected = "46 um/px; expected 0.05 to 10, as of a scan; check the unit and the decimal point"
    for command in ("patch", "encode"):
        given = hardmil(command, study, "--mpp", "46")
        assert given.code == 1
        assert "patches.mpp: found 46" in given.err
        assert expected in given.err
    hardmil("train", feature_study, *quick("training.epochs=1"))
    call = ("predict", feature_study / "bundle", "s0", "--features", feature_study / "feats")
    predicted = hardmil(*call, "--mpp", "46")
    assert predicted.code == 1
    assert f"--mpp: found {expected}" in predicted.err
    write_csv(study / "slides.csv", [{**row, "mpp": 46} for row in read_csv(study / "slides.csv")])
    for command in ("patch", "encode", "train", "evaluate"):
        assert f"line 2: slide 000 a: mpp is {expected}" in hardmil(command, study).err


def test_features_of_another_encoder_are_named(hardmil: Hardmil, feature_study: Path, tmp_path: Path) -> None:
    import h5py

    hardmil("train", feature_study, "--set", "training.epochs=1")
    with h5py.File(tmp_path / "s0.h5", "w") as file:
        file["features"] = np.zeros((4, 9), np.float32)
        file["coords"] = np.zeros((4, 2), np.int64)
    run = hardmil(
        "predict",
        feature_study / "bundle",
        "s0",
        "--features",
        tmp_path,
        "--output",
        tmp_path / "out",
        "--json",
    )
    assert run.code == 1
    message = json.loads(run.out)["failures"]["s0"]
    assert "(9,)" in message
    assert "(6,)" in message


def test_arms_are_spelled_right_or_refused(hardmil: Hardmil, feature_study: Path) -> None:
    run = hardmil("evaluate", feature_study, "--set", "evaluation.arms=[ours+fbm]")
    assert run.code == 1
    assert "did you mean fmb?" in run.err


def test_device_that_is_not_here(hardmil: Hardmil, feature_study: Path) -> None:
    run = hardmil("train", feature_study, "--device", "tpu9")
    assert run.code == 1
    assert "device tpu9" in run.err
    assert "--device cpu" in run.err


def test_a_corrected_path_is_encoded_again_and_a_wrong_one_named(hardmil: Hardmil, study: Path) -> None:
    assert hardmil("encode", study).code == 0
    old = (study / "features_pixels" / "000 a.h5").read_bytes()
    rows = read_csv(study / "slides.csv")
    rows[0]["path"], rows[1]["path"] = rows[1]["path"], rows[0]["path"]
    rows[2]["path"] = "slides/moved.png"
    write_csv(study / "slides.csv", [dict(row) for row in rows])
    stale = hardmil("train", study, *quick("training.epochs=1"), "--set", "arm=ours", "--json")
    failures = json.loads(stale.out)["failures"]
    assert set(failures) == {"000 a", "001 a", "002 a"}
    assert "another file" in failures["000 a"]
    run = hardmil("encode", study, "--json")
    assert set(json.loads(run.out)["failures"]) == {"002 a"}
    assert (study / "features_pixels" / "000 a.h5").read_bytes() != old


def test_train_again_where_the_bundle_is_stale_or_broken(hardmil: Hardmil, feature_study: Path) -> None:
    call = ("train", feature_study, "--set", "training.epochs=1", "--json")
    hardmil(*call)
    assert "nothing to do" in hardmil(*call).text
    bundle = feature_study / "bundle"
    (bundle / read_card(bundle).content / "model.safetensors").write_bytes(b"")
    assert "trained ours on 12 slides" in hardmil(*call).text
    table = (feature_study / "slides.csv").read_text(encoding="utf-8").replace(",0\n", ",benign\n")
    (feature_study / "slides.csv").write_text(table.replace(",1\n", ",malignant\n"), encoding="utf-8")
    hardmil(*call)
    assert read_card(feature_study / "bundle").classes == ("benign", "malignant")


def test_ids_with_dots_and_training_slides_in_predict(
    hardmil: Hardmil, feature_study: Path, tmp_path: Path
) -> None:
    hardmil("train", feature_study, "--set", "training.epochs=1")
    named = "TCGA-1.2B95"
    (feature_study / "feats" / f"{named}.h5").write_bytes((feature_study / "feats" / "s0.h5").read_bytes())
    call = ("predict", feature_study / "bundle", named, "s1", "--features", feature_study / "feats")
    run = hardmil(*call, "--output", tmp_path / "out", "--json")
    assert run.code == 0, run.err
    assert [row["slide_id"] for row in read_csv(tmp_path / "out" / "predictions.csv")] == [named, "s1"]
    assert json.loads(run.out)["trained_on"] == 1
    assert "1 of them were trained on" in run.text


def test_ctrl_c_says_how_to_go_on(hardmil: Hardmil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hardmil.commands.init.init", interrupted)
    run = hardmil("init", tmp_path)
    assert run.code == 130
    assert "run the same command to continue" in run.err


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", ".."])
def test_the_name_of_a_run_is_a_folder_in_runs(hardmil: Hardmil, feature_study: Path, name: str) -> None:
    run = hardmil("evaluate", feature_study, "--name", name)
    assert run.code == 1
    assert f"--name {name}: expected the name of a folder in runs/" in run.err


def test_commands_take_the_study_of_the_working_folder(
    hardmil: Hardmil, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    run = hardmil("patch")
    assert run.code == 0, run.err
    assert len(list((study / "patches").glob("*.h5"))) == 8
    monkeypatch.chdir(tmp_path)
    assert "no such file; expected a study" in hardmil("train").err


def test_predict_takes_another_rule_of_what_is_tissue_and_nothing_else(
    hardmil: Hardmil, study: Path, tmp_path: Path
) -> None:
    hardmil("encode", study)
    assert hardmil("train", study, "--set", "training.epochs=1", "--set", "arm=ours").code == 0
    path = tmp_path / "pale.png"
    Image.new("RGB", (210, 150), (244, 243, 245)).save(path)
    call = ("predict", study / "bundle", path, "--output", tmp_path / "out")
    found_nothing = hardmil(*call)
    assert found_nothing.code == 1
    assert "--set patches.min_tissue=0 takes all patches" in found_nothing.err
    assert hardmil(*call, "--set", "patches.min_tissue=0").code == 0
    refused = hardmil(*call, "--set", "patches.size_px=64")
    assert refused.code == 1
    assert "was trained with patches.size_px as it is" in refused.err
    assert "patches.min_tissue: found 2" in hardmil(*call, "--set", "patches.min_tissue=2").err


def test_mpp_of_predict_is_for_slides_without_mpp(hardmil: Hardmil, study: Path, tmp_path: Path) -> None:
    rows = read_csv(study / "slides.csv")
    write_csv(study / "slides.csv", [{**row, "mpp": 0.5} for row in rows])
    settings = ("--set", "patches.um_per_px=0.5", "--set", "arm=ours")
    hardmil("encode", study, *settings)
    assert hardmil("train", study, *quick("training.epochs=1"), *settings).code == 0
    path = study / "slides" / "001 a.bmp"
    out = ("--output", tmp_path / "out")
    unknown = hardmil("predict", study / "bundle", path, *out)
    assert unknown.code == 1
    assert hardmil("predict", study / "bundle", path, "--mpp", "0.5", *out).code == 0
    assert "expected 0.05 to 10" in hardmil("predict", study / "bundle", path, "--mpp", "0", *out).err


def test_an_empty_list_of_arms(hardmil: Hardmil, feature_study: Path) -> None:
    run = hardmil("evaluate", feature_study, "--set", "evaluation.arms=[]")
    assert run.code == 1
    assert "evaluation.arms" in run.err


def test_mpp_of_predict_does_not_change_the_scale_bar_of_a_slide_with_mpp(
    hardmil: Hardmil, study: Path, phantom_slide: Path, tmp_path: Path
) -> None:
    rows = read_csv(study / "slides.csv")
    write_csv(study / "slides.csv", [{**row, "mpp": 0.5} for row in rows])
    settings = ("--set", "patches.um_per_px=0.5", "--set", "arm=ours")
    hardmil("encode", study, *settings)
    assert hardmil("train", study, *quick("training.epochs=1"), *settings).code == 0
    for name, mpp in (("own", ()), ("given", ("--mpp", "0.25"))):
        run = hardmil("predict", study / "bundle", phantom_slide, "--output", tmp_path / name, *mpp)
        assert run.code == 0, run.err
    for file in ("heatmaps/phantom.png", "predictions.csv"):
        assert (tmp_path / "own" / file).read_bytes() == (tmp_path / "given" / file).read_bytes()
