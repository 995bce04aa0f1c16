"""Features in AnnData files and zarr stores: training on them, and attention as columns of their tables."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.many_classes import class_bags, write_class_study
from tests.support.scverse import tile_table, write_h5ad, write_store
from tests.support.studies import Hardmil, quick, read_csv

pytestmark = pytest.mark.slow


def _as_tables(study: Path) -> None:
    """The same features in one store for each slide, and in one file for each in `files`."""
    (study / "stores").mkdir()
    (study / "files").mkdir()
    for path in sorted((study / "feats").glob("*.h5")):
        with h5py.File(path) as file:
            features, corners = np.asarray(file["features"]), np.asarray(file["coords"])
        tables = {"uni_tiles": tile_table(features), "other_tiles": tile_table(features[:, :2])}
        write_store(study / "stores" / f"{path.stem}.zarr", tables, corners, size=256)
        write_h5ad(study / "files" / f"{path.stem}.h5ad", features, corners, tile_px=128)


def test_tables_train_and_get_columns(hardmil: Hardmil, feature_study: Path):
    anndata, zarr = pytest.importorskip("anndata"), pytest.importorskip("zarr")
    _as_tables(feature_study)
    trained = hardmil("train", feature_study, "--set", "features=stores/uni_tiles", *quick())
    assert trained.code == 0, trained.err
    scores: list[list[str]] = []
    for features in ("feats", "files", "stores/uni_tiles"):
        out = feature_study / "out" / features
        options = [
            "--slides",
            feature_study / "slides.csv",
            "--features",
            feature_study / features,
            "--quiet",
        ]
        more = [] if features == "feats" else ["--write-obs"]
        run = hardmil("predict", feature_study / "bundle", *options, "--output", out, *more)
        assert run.code == 0, run.err
        scores.append([row["bag_score"] for row in read_csv(out / "predictions.csv")])
    assert scores[0] == scores[1] == scores[2]
    with h5py.File(feature_study / "out" / "feats" / "attention" / "s3.h5") as file:
        attention = np.asarray(file["s3/attention_scores"])
    in_file = anndata.read_h5ad(feature_study / "files" / "s3.h5ad").obs
    root = zarr.open_group(feature_study / "stores" / "s3.zarr", mode="r")
    in_store = anndata.io.read_elem(root["tables/uni_tiles"]).obs
    for obs in (in_file, in_store):
        assert list(obs)[-3:] == ["hardmil_attention", "hardmil_instance_logit", "hardmil_contribution"]
        np.testing.assert_allclose(obs["hardmil_attention"], attention, rtol=1e-6)
    assert not [name for name in anndata.io.read_elem(root["tables/other_tiles"]).obs if "hardmil" in name]


def test_with_many_classes_there_is_a_column_for_each(hardmil: Hardmil, tmp_path: Path):
    anndata = pytest.importorskip("anndata")
    study = write_class_study(tmp_path / "study", n=9)
    assert hardmil("train", study, "--set", "training.epochs=4", "--quiet").code == 0
    (study / "files").mkdir()
    bag = class_bags(9)[1]
    write_h5ad(study / "files" / "s1.h5ad", bag.instances, bag.coords, tile_px=128)
    options = ["--features", study / "files", "--output", tmp_path / "out", "--write-obs", "--quiet"]
    run = hardmil("predict", study / "bundle", "s1", *options)
    assert run.code == 0, run.err
    obs = anndata.read_h5ad(study / "files" / "s1.h5ad").obs
    with h5py.File(tmp_path / "out" / "attention" / "s1.h5") as file:
        by_class = np.asarray(file["s1/attention_by_class"])
    for name, attention in zip("ab", by_class, strict=True):
        np.testing.assert_allclose(obs[f"hardmil_attention_{name}"], attention, rtol=1e-6)


def test_columns_need_tables(hardmil: Hardmil, feature_study: Path):
    assert hardmil("train", feature_study, *quick()).code == 0
    options = ["--slides", feature_study / "slides.csv", "--features", feature_study / "feats", "--write-obs"]
    run = hardmil("predict", feature_study / "bundle", *options, "--output", feature_study / "out")
    assert run.code == 1
    assert "s0.h5: is not an AnnData table; expected .h5ad or a .zarr store to add columns to" in run.text
