from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.scverse import tile_table, write_h5ad, write_store

from hardmil.errors import FeatureFileError
from hardmil.files.obs_columns import write_obs_columns

FEATURES = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
CORNERS = np.array([[0, 0], [256, 0], [512, 0], [0, 256]])
FIRST, SECOND = np.arange(4, dtype=np.float32), np.arange(4, dtype=np.float32) / 7


def test_columns_are_added_to_a_file_and_nothing_else_changes(tmp_path: Path):
    anndata = pytest.importorskip("anndata")
    path = tmp_path / "s1.h5ad"
    write_h5ad(path, FEATURES, CORNERS, tile_px=128)
    before = anndata.read_h5ad(path)
    write_obs_columns(path, {"hardmil_attention": FIRST, "hardmil_instance_logit": FIRST})
    write_obs_columns(path, {"hardmil_attention": SECOND})
    after = anndata.read_h5ad(path)
    assert list(after.obs) == [*before.obs, "hardmil_attention", "hardmil_instance_logit"]
    np.testing.assert_array_equal(after.obs["hardmil_attention"], SECOND)
    np.testing.assert_array_equal(after.obs["hardmil_instance_logit"], FIRST)
    assert after.obs[list(before.obs)].equals(before.obs)
    np.testing.assert_array_equal(after.X, before.X)
    np.testing.assert_array_equal(after.obsm["spatial"], CORNERS)
    assert after.uns["tile_spec"] == before.uns["tile_spec"]
    assert [one.name for one in tmp_path.iterdir()] == ["s1.h5ad"]


def test_who_may_read_a_file_does_not_change_and_a_link_stays(tmp_path: Path):
    path, link = tmp_path / "elsewhere.h5ad", tmp_path / "s1.h5ad"
    write_h5ad(path, FEATURES, CORNERS)
    path.chmod(0o600)
    link.symlink_to(path)
    write_obs_columns(link, {"hardmil_attention": FIRST})
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["obs/hardmil_attention"], FIRST)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_columns_are_added_to_a_store_and_nothing_else_changes(tmp_path: Path, zarr_format: int):
    anndata, zarr = pytest.importorskip("anndata"), pytest.importorskip("zarr")
    store = tmp_path / "s1.zarr"
    tables = {"uni_tiles": tile_table(FEATURES), "other_tiles": tile_table(FEATURES)}
    write_store(store, tables, CORNERS, size=256, zarr_format=zarr_format)
    kept = {
        path: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.parent.name != "obs"
    }
    table = store / "tables" / "uni_tiles"
    write_obs_columns(table, {"hardmil_attention": FIRST})
    write_obs_columns(table, {"hardmil_attention": SECOND, "hardmil_contribution": FIRST})
    # As spatialdata reads it: from the metadata of the whole store.
    after = anndata.io.read_elem(zarr.open_group(store, mode="r")["tables/uni_tiles"])
    assert list(after.obs) == ["tile_id", "library_id", "hardmil_attention", "hardmil_contribution"]
    np.testing.assert_array_equal(after.obs["hardmil_attention"], SECOND)
    np.testing.assert_array_equal(after.obs["hardmil_contribution"], FIRST)
    changed = {path.name for path, content in kept.items() if path.read_bytes() != content}
    assert changed <= {"zarr.json", ".zmetadata"}
    other = anndata.io.read_elem(zarr.open_group(store, mode="r")["tables/other_tiles"])
    assert list(other.obs) == ["tile_id", "library_id"]


def test_a_table_of_other_rows_is_left_alone(tmp_path: Path):
    path = tmp_path / "s1.h5ad"
    write_h5ad(path, FEATURES, CORNERS)
    before = path.read_bytes()
    with pytest.raises(FeatureFileError, match=r"obs has 4 rows, and there are values for \{3\}"):
        write_obs_columns(path, {"hardmil_attention": FIRST[:3]})
    assert path.read_bytes() == before


def test_other_feature_files_have_no_columns(tmp_path: Path):
    (tmp_path / "s1.h5").write_bytes(b"")
    with pytest.raises(FeatureFileError, match=r"s1\.h5: is not an AnnData table; .*leave out --write-obs"):
        write_obs_columns(tmp_path / "s1.h5", {"hardmil_attention": FIRST})
