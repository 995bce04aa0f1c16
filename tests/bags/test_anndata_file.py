from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.support.scverse import write_h5ad

from hardmil.bags.bag import Bag
from hardmil.bags.feature_folder import find_feature_file, read_features
from hardmil.bags.slide_table import SlideRow
from hardmil.errors import FeatureFileError

FEATURES = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
CORNERS = np.array([[0, 0], [300, 0], [600, 0], [0, 300]])
ROW = SlideRow("s1", "c1", "tumour", None, None)


def _read(folder: Path) -> Bag:
    return read_features(find_feature_file(folder, slide_id="s1"), ROW, label=1)


def test_a_file_is_a_bag(tmp_path: Path):
    write_h5ad(tmp_path / "s1.h5ad", FEATURES, CORNERS, tile_px=128)
    bag = _read(tmp_path)
    np.testing.assert_array_equal(bag.instances, FEATURES)
    np.testing.assert_array_equal(bag.coords, CORNERS)
    # 128 px, twice as large at level 0.
    assert bag.size_level0_px == 256


def test_without_the_size_of_tiles_it_is_the_step_of_the_grid(tmp_path: Path):
    write_h5ad(tmp_path / "s1.h5ad", FEATURES, CORNERS)
    assert _read(tmp_path).size_level0_px == 300


def test_files_that_cannot_be_used(tmp_path: Path):
    path = tmp_path / "s1.h5ad"
    write_h5ad(path, FEATURES, CORNERS, tile_px=128)
    with h5py.File(path, "a") as file:
        spec = file["uns/tile_spec"]
        assert isinstance(spec, h5py.Group)
        del spec["height"]
        spec["height"] = 64
    with pytest.raises(FeatureFileError, match=r"tiles of 128 x 64 px at 2\.0; expected squares"):
        _read(tmp_path)
    with h5py.File(path, "a") as file:
        del file["uns/tile_spec"]
        del file["obsm/spatial"]
    with pytest.raises(FeatureFileError, match=r'no obsm\["spatial"\]; expected the top-left corner'):
        _read(tmp_path)
    with h5py.File(path, "a") as file:
        file["obsm/spatial"] = h5py.SoftLink("/X")
    with pytest.raises(FeatureFileError, match="spatial is a link to /X"):
        _read(tmp_path)
    with h5py.File(path, "a") as file:
        del file["obsm/spatial"]
        file["obsm/spatial"] = CORNERS[:2]
    with pytest.raises(FeatureFileError, match="4 rows in X and 2 corners; expected one for each tile"):
        _read(tmp_path)
    with h5py.File(path, "a") as file:
        del file["X"]
    with pytest.raises(FeatureFileError, match="X is missing; expected features as a dense array"):
        _read(tmp_path)
