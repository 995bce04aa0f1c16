"""patch, encode, train, evaluate, mine, predict: the path of a study."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.studies import Hardmil, draw_slide, quick, read_csv, write_csv

from hardmil.bags.bag_file import read_bag
from hardmil.bundles.bundle import load_bundle
from hardmil.mil.inference import score_bags
from hardmil.slides.reader import open_slide


@pytest.mark.slow
def test_whole_path_on_pixels(hardmil: Hardmil, study: Path, tmp_path: Path) -> None:
    patched = hardmil("patch", study, "--json")
    assert patched.code == 0, patched.err
    coords = study / "patches" / "000 a_patches.h5"
    with h5py.File(coords) as file:
        assert file["coords"].attrs["patch_size_level0"] == 24
        n_patches = len(file["coords"])
    assert 30 <= n_patches <= 48

    assert hardmil("encode", study).code == 0
    with h5py.File(study / "features_pixels" / "001 a.h5") as file:
        assert file["patches"].shape[1:] == (24, 24, 3)
    stamp = (study / "features_pixels" / "001 a.h5").stat().st_mtime_ns
    hardmil("encode", study)
    assert (study / "features_pixels" / "001 a.h5").stat().st_mtime_ns == stamp

    trained = hardmil("train", study, *quick(), "--json")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["slides"] == 8
    again = hardmil("train", study, *quick())
    assert "nothing to do" in again.text

    evaluated = hardmil("evaluate", study, *quick(), "--json")
    assert evaluated.code == 0, evaluated.err
    assert "ours+fmb-oof minus ours+fmb-oof@random" in evaluated.text
    check_tables(study / "runs" / "main")
    assert (study / "runs" / "main" / "report.html").stat().st_size > 10_000

    tables = {name: (study / "runs" / "main" / name).read_text() for name in ("results.csv", "summary.csv")}
    shutil.rmtree(study / "runs" / "main" / "trials")
    assert hardmil("evaluate", study, *quick()).code == 0, "rows are enough; trials/ may be deleted"
    for name, text in tables.items():
        assert (study / "runs" / "main" / name).read_text() == text

    mined = hardmil("mine", study, "--json")
    assert mined.code == 0, mined.err
    check_mined(study, n_hard=json.loads(mined.out)["n_hard"])

    check_predictions(hardmil, study / "bundle", tmp_path)


@pytest.mark.slow
def test_whole_path_with_an_encoder(hardmil: Hardmil, study: Path, tmp_path: Path) -> None:
    """Slides to bundle to prediction with EfficientNet-Lite0, and the same answer from both commands."""
    settings = ["--set", "encode=efficientnet-lite0", "--set", "encode_px=32", *quick()]
    encoded = hardmil("encode", study, *settings)
    assert encoded.code == 0, encoded.err
    path = study / "features_efficientnet-lite0" / "001 a.h5"
    with h5py.File(path) as file:
        assert file["features"].shape[1] == 1280
        assert file["features"].attrs["encoder"] == "efficientnet-lite0"
    stamp = path.stat().st_mtime_ns
    refused = hardmil("encode", study, *settings, "--set", "device=cuda:7")
    assert "device cuda:7" in refused.err
    assert hardmil("encode", study, *settings).code == 0
    assert path.stat().st_mtime_ns == stamp
    other = hardmil("train", study, *settings, "--set", "encode_px=48")
    assert other.code == 1
    assert "other `patches` or `encode`" in other.err

    evaluated = hardmil("evaluate", study, *settings, "--set", "evaluation.arms=[mean]")
    assert evaluated.code == 0, evaluated.err
    rows = read_csv(study / "runs" / "main" / "results.csv")
    assert {row["patches"] for row in rows} == {"grid-efficientnet-lite0"}, "not taken for pixels"

    assert hardmil("train", study, *settings, "--set", "arm=ours+instance").code == 0
    slides = study / "slides"
    output = tmp_path / "answers"
    predicted = hardmil("predict", study / "bundle", *sorted(slides.glob("*.png")), "--output", output)
    assert predicted.code == 0, predicted.err
    bundle = load_bundle(study / "bundle")
    for row in read_csv(output / "predictions.csv"):
        bag = read_bag(study / "features_efficientnet-lite0" / f"{row['slide_id']}.h5", case_id="", label=-1)
        assert float(row["bag_score"]) == pytest.approx(
            score_bags(bundle.network, [bag])[0].bag_score, abs=1e-3
        )
    refused = hardmil("predict", study / "bundle", slides / "000 a.png", "--features", study)
    assert "slides (efficientnet-lite0)" in refused.err


def check_tables(run: Path) -> None:
    results = read_csv(run / "results.csv")
    assert {(row["arm"], row["fold"]) for row in results} == {
        (arm, fold) for arm in ("ours", "ours+fmb-oof", "ours+fmb-oof@random") for fold in "01"
    }
    predictions = read_csv(run / "predictions.csv")
    assert len(predictions) == 3 * 8
    for row in predictions:
        assert float(row["prob_normal"]) + float(row["prob_tumour"]) == pytest.approx(1, abs=1e-4)
        assert row["prediction"] == ("tumour" if float(row["bag_score"]) > 0.5 else "normal")
    check_statistics(run)
    for row in read_csv(run / "hard_negatives.csv"):
        assert int(row["slide_id"][2]) % 2 == 0, "a hard negative is on a negative slide"


def check_statistics(run: Path) -> None:
    arms = ["ours", "ours+fmb-oof", "ours+fmb-oof@random"]
    summary = {row["arm"]: row for row in read_csv(run / "summary.csv")}
    intervals = read_csv(run / "intervals.csv")
    assert list(summary) == list(dict.fromkeys(row["arm"] for row in intervals)) == arms
    for row in intervals:
        assert (row["n_cases"], row["n_repeats"] in "01") == ("8", True)
        assert row["value"] == summary[row["arm"]][row["metric"]], "one number in all tables"
        assert not float(row["low"]) > float(row["high"])
    pairs = [(row["arm"], row["other"]) for row in read_csv(run / "comparisons.csv")]
    assert list(dict.fromkeys(pairs)) == [(arms[1], "ours"), (arms[1], arms[2]), (arms[2], "ours")]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert re.search(r"\b8 cases\b", page)
    assert "ours+fmb-oof minus ours+fmb-oof@random" in page


def check_mined(study: Path, *, n_hard: int) -> None:
    rows = read_csv(study / "mined" / "hard_negatives.csv")
    assert len(rows) == n_hard
    tiles = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (study / "mined" / "geojson").glob("*.geojson")
    ]
    assert sum(len(tile["features"]) for tile in tiles) == n_hard
    assert (study / "mined" / "hard_negatives.html").exists()


def check_predictions(hardmil: Hardmil, bundle: Path, folder: Path) -> None:
    paths = [folder / "new one.png", folder / "new two.png"]
    for seed, path in enumerate(paths):
        draw_slide(path, positive=bool(seed), seed=100 + seed)
    output = folder / "out"
    run = hardmil("predict", bundle, *paths, "--output", output)
    assert run.code == 0, run.err
    rows = read_csv(output / "predictions.csv")
    assert [row["slide_id"] for row in rows] == ["new one", "new two"]
    with h5py.File(output / "attention" / "new one.h5") as file:
        attention = np.asarray(file["new one/attention_scores"])
        assert attention.sum() == pytest.approx(1, abs=1e-5)
        assert file["new one/coords"].shape == (len(attention), 2)
    assert (output / "heatmaps" / "new two.png").stat().st_size > 1000
    table = [
        {"slide_id": "a", "path": paths[0].name, "label": "normal"},
        {"slide_id": "b", "path": paths[1].name, "label": "tumour"},
    ]
    write_csv(folder / "new.csv", table)
    labelled = hardmil(
        "predict", bundle, "--slides", folder / "new.csv", "--output", folder / "out2", "--json"
    )
    assert labelled.code == 0, labelled.err
    assert "labels of 2 slides" in labelled.text
    saved = json.loads((folder / "out2" / "metrics.json").read_text(encoding="utf-8"))
    said = json.loads(labelled.out)["metrics"]
    assert saved["labelled_slides"] == 2
    assert {name: saved[name] for name in said} == said
    assert not (output / "metrics.json").exists()
    same = read_csv(folder / "out2" / "predictions.csv")
    assert [row["bag_score"] for row in same] == [row["bag_score"] for row in rows]
    check_case(hardmil, bundle, folder, table=table)


def check_case(hardmil: Hardmil, bundle: Path, folder: Path, *, table: list[dict[str, object]]) -> None:
    """Two slides as one case, their heat maps of contributions, and those as OME-TIFF."""
    write_csv(folder / "case.csv", [row | {"case_id": "patient 1"} for row in table])
    output = folder / "out3"
    run = hardmil(
        "predict", bundle, "--slides", folder / "case.csv", "--output", output, "--case-score", "max",
        "--heatmap-of", "contribution", "--heatmap-scale", "raw", "--ome-tiff",
    )  # fmt: skip
    assert run.code == 0, run.err
    assert "1 case, 1 of several slides" in run.text
    page = (output / "key_patches.html").read_text(encoding="utf-8")
    assert page.count("<h2") == 2
    assert page.count("<img") == page.count('alt="') == 2 * (2 + 4)
    slides = read_csv(output / "predictions.csv")
    (case,) = read_csv(output / "predictions_by_case.csv")
    assert case["label"] == "tumour"
    assert (case["n_slides"], case["case_score"]) == ("2", "max")
    assert case["bag_score"] == max((row["bag_score"] for row in slides), key=float)
    for row in slides:
        score = float(row["bag_score"])
        with h5py.File(output / "attention" / f"{row['slide_id']}.h5") as file:
            group = file[row["slide_id"]]
            logit = float(np.sum(group["contributions"])) + float(group.attrs["bias"])
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(score, abs=1e-5)
        with open_slide(output / "heatmaps" / f"{row['slide_id']}.ome.tiff") as heatmap:
            assert (heatmap.width_px, heatmap.height_px) == (70, 50), "3 level-0 px a pixel: 8 a patch of 24"
        tiles = json.loads((output / "geojson" / f"{row['slide_id']}.geojson").read_text(encoding="utf-8"))
        with h5py.File(output / "attention" / f"{row['slide_id']}.h5") as file:
            corners = np.asarray(file[row["slide_id"]]["coords"])
        rings = np.array([one["geometry"]["coordinates"][0] for one in tiles["features"]])
        np.testing.assert_array_equal(rings.min(axis=1), corners)
        np.testing.assert_array_equal(rings.max(axis=1), corners + 24)
        np.testing.assert_array_equal(rings[:, 0], rings[:, -1])
        names = [one["properties"]["classification"]["name"] for one in tiles["features"]]
        assert names.count("key patch") == 10
        assert set(tiles["features"][0]["properties"]["measurements"]) == {
            "attention", "instance_logit", "contribution",
        }  # fmt: skip


def test_whole_path_on_features(hardmil: Hardmil, feature_study: Path, tmp_path: Path) -> None:
    trained = hardmil("train", feature_study)
    assert trained.code == 0, trained.err
    evaluated = hardmil("evaluate", feature_study, "--json")
    assert evaluated.code == 0, evaluated.err
    arms = json.loads(evaluated.out)["arms"]
    assert {one["arm"]: one["n_trials"] for one in arms} == {"abmil": 3, "ours": 3, "ours+instance": 3}
    run = hardmil(
        "predict", feature_study / "bundle", "--slides", feature_study / "slides.csv",
        "--features", feature_study / "feats", "--output", tmp_path / "out", "--json",
    )  # fmt: skip
    assert run.code == 0, run.err
    assert json.loads(run.out)["metrics"]["auc"] > 0.9
