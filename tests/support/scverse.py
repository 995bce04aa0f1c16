"""AnnData files and SpatialData stores of tiles, written by anndata as LazySlide and wsidata lay them out."""

import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def tile_table(features: np.ndarray, *, tile_ids: np.ndarray | None = None) -> Any:
    """A table of features as `wsidata.io.add_features` makes it."""
    anndata, pandas = pytest.importorskip("anndata"), pytest.importorskip("pandas")
    ids = np.arange(features.shape[0]) if tile_ids is None else tile_ids
    library = pandas.Categorical.from_codes(np.zeros(len(ids), int), categories=_texts(["tiles"]))
    obs = pandas.DataFrame({"tile_id": ids, "library_id": library}, index=_texts(ids.tolist()))
    var = pandas.DataFrame(index=_texts(range(features.shape[1])))
    keys = {"region": "tiles", "region_key": "library_id", "instance_key": "tile_id"}
    return anndata.AnnData(X=features, obs=obs, var=var, uns={"spatialdata_attrs": keys})


def _texts(values: Iterable[object]) -> Any:
    """An index of text as objects: anndata 0.12, the last for Python 3.11, cannot write that of pandas 3."""
    pandas = pytest.importorskip("pandas")
    return pandas.Index([str(one) for one in values], dtype=object)


def write_h5ad(path: Path, features: np.ndarray, corners: np.ndarray, *, tile_px: int = 0) -> None:
    """A file as `wsi.fetch.features_anndata(...).write_h5ad` makes it, tiles cut at half the resolution."""
    table = tile_table(features)
    table.obsm["spatial"] = corners.astype(np.float64)
    if tile_px:
        table.uns["tile_spec"] = {"width": tile_px, "height": tile_px, "base_downsample": 2.0, "mpp": 0.5}
    table.write_h5ad(path)


def write_store(
    store: Path, tables: dict[str, Any], corners: np.ndarray, *, size: int, zarr_format: int = 3
) -> None:
    """A store with tables of features, and the tiles in `shapes/tiles` as GeoParquet."""
    zarr, anndata = pytest.importorskip("zarr"), pytest.importorskip("anndata")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    root = zarr.open_group(store, mode="w", zarr_format=zarr_format)
    root.attrs["tile_spec"] = {"tiles": {"width": size, "height": size, "base_downsample": 1.0}}
    for name, table in tables.items():
        group = root.require_group(f"tables/{name}")
        anndata.io.write_elem(root, f"tables/{name}", table)
        group = root[f"tables/{name}"]
        group.attrs.update({"region": "tiles", "region_key": "library_id", "instance_key": "tile_id"})
    root.require_group("shapes/tiles")
    with warnings.catch_warnings():
        # That zarr 3 has no final specification of it; spatialdata writes it all the same.
        warnings.simplefilter("ignore", category=UserWarning)
        zarr.consolidate_metadata(store, zarr_format=zarr_format)
    columns = {
        "tile_id": np.arange(len(corners)),
        "x": corners[:, 0],
        "y": corners[:, 1],
        "geometry": [_box(x, y, size) for x, y in corners.tolist()],
    }
    parquet.write_table(pyarrow.table(columns), store / "shapes" / "tiles" / "shapes.parquet")


def _box(x: int, y: int, size: int) -> bytes:
    """A square as well-known binary, in the order of `shapely.box`."""
    corners = [(x + size, y), (x + size, y + size), (x, y + size), (x, y), (x + size, y)]
    return struct.pack("<BIII", 1, 3, 1, 5) + b"".join(struct.pack("<dd", *one) for one in corners)
