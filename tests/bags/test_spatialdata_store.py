import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.scverse import tile_table, write_store

from hardmil import budget
from hardmil.bags.bag import Bag
from hardmil.bags.feature_folder import find_feature_file, read_features
from hardmil.bags.slide_table import SlideRow
from hardmil.bags.spatialdata_store import find_table, is_table
from hardmil.errors import BagError, FeatureFileError
from hardmil.files import zarr_store

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(5, 4)).astype(np.float32)
CORNERS = np.array([[0, 0], [256, 0], [0, 256], [256, 256], [512, 256]])
ROW = SlideRow("s1", "c1", "tumour", None, None)


def _write(folder: Path, *, table: Any = None, zarr_format: int = 3, **more: Any) -> Path:
    store = folder / "s1.zarr"
    tables = {"uni_tiles": tile_table(FEATURES) if table is None else table, **more}
    write_store(store, tables, CORNERS, size=256, zarr_format=zarr_format)
    return store


def _read(folder: Path) -> Bag:
    return read_features(find_feature_file(folder, slide_id="s1"), ROW, label=1)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_is_a_bag(tmp_path: Path, zarr_format: int):
    _write(tmp_path, zarr_format=zarr_format)
    bag = _read(tmp_path)
    np.testing.assert_array_equal(bag.instances, FEATURES)
    np.testing.assert_array_equal(bag.coords, CORNERS)
    assert (bag.slide_id, bag.case_id, bag.label, bag.size_level0_px) == ("s1", "c1", 1, 256)
    assert bag.provenance.encoder == "uni"


def test_rows_find_their_tiles_by_id(tmp_path: Path):
    ids = np.array([3, 0, 4])
    _write(tmp_path, table=tile_table(FEATURES[ids], tile_ids=ids))
    bag = _read(tmp_path)
    np.testing.assert_array_equal(bag.coords, CORNERS[ids])
    np.testing.assert_array_equal(bag.instances, FEATURES[ids])


def test_one_of_several_tables_is_named_after_the_folder(tmp_path: Path):
    store = _write(tmp_path, virchow2_tiles=tile_table(FEATURES + 1), tiles_graph=tile_table(FEATURES))
    with pytest.raises(
        FeatureFileError, match=r"are uni_tiles, virchow2_tiles; expected one; name the table"
    ):
        find_feature_file(tmp_path, slide_id="s1")
    for name in ("virchow2", "virchow2_tiles"):
        np.testing.assert_array_equal(_read(tmp_path / name).instances, FEATURES + 1)
    assert find_table(store, name="uni") == store / "tables" / "uni_tiles"
    with pytest.raises(FeatureFileError, match="expected one named conch"):
        find_feature_file(tmp_path / "conch", slide_id="s1")
    assert is_table(store / "tables" / "uni_tiles")
    assert not is_table(store)


def test_a_missing_store_is_among_the_names_that_are_expected(tmp_path: Path):
    with pytest.raises(FeatureFileError, match=r"expected s2\.h5, .*s2\.h5ad, .* or s2\.zarr"):
        find_feature_file(tmp_path, slide_id="s2")


def test_tables_that_cannot_be_used(tmp_path: Path):
    scipy = pytest.importorskip("scipy.sparse")
    _write(tmp_path / "sparse", table=tile_table(scipy.csr_matrix(FEATURES)))
    with pytest.raises(FeatureFileError, match="X is a group, such as a sparse matrix; expected an array"):
        _read(tmp_path / "sparse")
    _write(tmp_path / "unknown", table=tile_table(FEATURES[:2], tile_ids=np.array([1, 9])))
    with pytest.raises(FeatureFileError, match="tile 9 is not among the tiles of the slide"):
        _read(tmp_path / "unknown")
    _write(tmp_path / "nan", table=tile_table(np.full((5, 2), np.nan, np.float32)))
    with pytest.raises(BagError, match="NaN"):
        _read(tmp_path / "nan")


def test_damage_is_said_and_links_are_refused(tmp_path: Path):
    store = _write(tmp_path)
    shapes = store / "shapes" / "tiles" / "shapes.parquet"
    content = shapes.read_bytes()
    shapes.write_bytes(content[: len(content) // 2])
    with pytest.raises(FeatureFileError, match=r"shapes\.parquet: cannot be read .*; expected the tiles"):
        _read(tmp_path)
    shapes.unlink()
    os.symlink("/etc/hostname", shapes)
    with pytest.raises(FeatureFileError, match=r"shapes\.parquet: is a link; expected values in this store"):
        _read(tmp_path)
    shapes.unlink()
    shapes.write_bytes(content)
    (store / "tables" / "uni_tiles" / "zarr.json").write_text("{")
    with pytest.raises(FeatureFileError, match=r"uni_tiles: cannot be read .*; expected a zarr group"):
        _read(tmp_path)


def test_large_claims_are_refused_before_they_are_read(tmp_path: Path):
    zarr = pytest.importorskip("zarr")
    store = _write(tmp_path)
    group = zarr.open_group(store / "tables" / "uni_tiles", mode="r+")
    group.create_array("X", shape=(10**9, 1024), dtype="float32", chunks=(1000, 1024), overwrite=True)
    with pytest.raises(
        FeatureFileError, match=r"X is float32 \(1000000000, 1024\), 4,096,000,000,000 bytes in"
    ):
        _read(tmp_path)


def test_without_the_packages_it_is_said_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _write(tmp_path)
    monkeypatch.setattr(zarr_store, "find_spec", lambda name: None)
    with pytest.raises(FeatureFileError, match=r"needs zarr and pyarrow, .*pip install 'hardmil\[scverse\]'"):
        _read(tmp_path)


class _Mark:
    """What a pickle can do: it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_no_pickle_is_run(tmp_path: Path, place: str):
    store = _write(tmp_path, zarr_format=2)
    array = store / "tables" / "uni_tiles" / "X"
    about = json.loads((array / ".zarray").read_text())
    codec = {"id": "pickle", "protocol": 5}
    about |= {"compressor": None, "filters": None, place: [codec] if place == "filters" else codec}
    (array / ".zarray").write_text(json.dumps(about))
    for chunk in array.glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(_Mark(tmp_path / "run")))
    with pytest.raises(FeatureFileError, match="cannot be read"):
        _read(tmp_path)
    assert not (tmp_path / "run").exists()


def _parquet(store: Path) -> Path:
    return store / "shapes" / "tiles" / "shapes.parquet"


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd", "use_dictionary": False},
        {"compression": "gzip", "data_page_version": "2.0"},
        {"data_page_size": 100, "row_group_size": 2, "write_page_checksum": True},
    ],
)
def test_shapes_are_read_however_they_are_written(tmp_path: Path, options: dict[str, Any]):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = _parquet(_write(tmp_path))
    parquet.write_table(parquet.read_table(path), path, **options)
    np.testing.assert_array_equal(_read(tmp_path).coords, CORNERS)


def test_a_polygon_stored_once_does_not_become_as_many_as_there_are_rows(tmp_path: Path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = _parquet(_write(tmp_path))
    geometry = pyarrow.DictionaryArray.from_arrays(np.zeros(10_000, np.int32), [b"\0" * 2_000_000])
    shapes = pyarrow.table({"geometry": geometry, "tile_id": np.arange(10_000)})
    parquet.write_table(shapes, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 200_000
    with pytest.raises(FeatureFileError, match="its polygons are not rectangles"):
        _read(tmp_path)


def test_shapes_that_claim_or_hold_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = _parquet(_write(tmp_path))
    monkeypatch.setattr(budget, "FREE_BYTES", 1 << 20)
    shapes = pyarrow.table({"geometry": [b"\0" * 2_000_000], "tile_id": [0]})
    parquet.write_table(shapes, path, compression="zstd", use_dictionary=False)
    with pytest.raises(FeatureFileError, match=r"shapes\.parquet: takes 2,000,\d+ bytes in memory"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"geometry": ["a"], "tile_id": [0]}, "geometry holds string; expected polygons as WKB"),
        ({"geometry": [[b"a"]], "tile_id": [0]}, "geometry holds list<.*; expected polygons as WKB"),
        ({"geometry": [b"a"], "tile_id": [[0]]}, "tile_id holds list<.*; expected numbers"),
        ({"tile_id": [0]}, "no column geometry"),
    ],
)
def test_shapes_of_other_kinds(tmp_path: Path, columns: dict[str, Any], message: str):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), _parquet(_write(tmp_path)))
    with pytest.raises(FeatureFileError, match=message):
        _read(tmp_path)


def test_a_tile_without_a_polygon_is_refused(tmp_path: Path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = _parquet(_write(tmp_path))
    polygons = parquet.read_table(path).column("geometry").to_pylist()
    parquet.write_table(pyarrow.table({"geometry": [*polygons[:-1], None], "tile_id": range(5)}), path)
    with pytest.raises(FeatureFileError, match="its polygons are not rectangles"):
        _read(tmp_path)


def test_polygons_built_from_those_before_them_are_refused(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = _parquet(_write(tmp_path))
    encodings = {"geometry": "DELTA_BYTE_ARRAY", "tile_id": "DELTA_BINARY_PACKED", "x": "PLAIN", "y": "PLAIN"}
    parquet.write_table(parquet.read_table(path), path, use_dictionary=False, column_encoding=encodings)
    with pytest.raises(FeatureFileError, match="has a header that names the encoding 7; expected PLAIN"):
        _read(tmp_path)


def test_tile_ids_are_a_column(tmp_path: Path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(_write(tmp_path) / "tables" / "uni_tiles" / "obs", mode="r+")
    group.create_array("tile_id", shape=(5, 2), dtype="int64", overwrite=True)
    with pytest.raises(FeatureFileError, match=r"tile_id has the shape \(5, 2\); expected a column"):
        _read(tmp_path)
