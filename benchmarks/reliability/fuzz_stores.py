"""Valid small AnnData files and SpatialData stores, and what reads them with one of their files damaged."""

import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import zarr
from numcodecs import Blosc, GZip
from zarr.codecs import BloscCodec, ZstdCodec

from hardmil.bags.feature_folder import find_feature_file, read_features
from hardmil.bags.slide_table import SlideRow

ROW = SlideRow("s1", "c1", None, None, 0.5)
FEATURES = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
CORNERS = np.stack(np.divmod(np.arange(20), 5), axis=1) * 256
STORES: dict[str, dict[str, Any]] = {
    "zstd": {"zarr_format": 3, "chunks": (10, 8), "compressors": ZstdCodec()},
    "blosc": {"zarr_format": 3, "chunks": (20, 8), "compressors": BloscCodec(cname="zstd")},
    "shards": {"zarr_format": 3, "chunks": (5, 8), "shards": (20, 8)},
    "gzip": {"zarr_format": 2, "chunks": (20, 8), "compressors": GZip()},
    "blosc 2": {"zarr_format": 2, "chunks": (20, 8), "compressors": Blosc()},
}
PARQUET: Sequence[dict[str, Any]] = (
    {},
    {"compression": "zstd", "use_dictionary": False},
    {"compression": "gzip", "data_page_version": "2.0", "data_page_size": 100, "row_group_size": 10},
)


def _write(folder: Path, *, zarr_format: int, **options: Any) -> Path:
    """A store as wsidata lays it out; the folder that it is in."""
    store = folder / "s1.zarr"
    table = zarr.open_group(store / "tables" / "uni_tiles", mode="w", zarr_format=zarr_format)
    table.attrs.update({"region": "tiles", "instance_key": "tile_id"})
    values = table.create_array("X", shape=FEATURES.shape, dtype="float32", **options)
    values[...] = FEATURES
    ids = table.create_array("obs/tile_id", shape=(len(FEATURES),), dtype="int64")
    ids[...] = np.arange(len(FEATURES))
    shapes = store / "shapes" / "tiles" / "shapes.parquet"
    shapes.parent.mkdir(parents=True)
    shapes.write_bytes(parquet_files()[0])
    return folder


def _box(x: int, y: int) -> bytes:
    corners = [(x + 256, y), (x + 256, y + 256), (x, y + 256), (x, y), (x + 256, y)]
    return struct.pack("<BIII", 1, 3, 1, 5) + b"".join(struct.pack("<dd", *one) for one in corners)


def parquet_files() -> list[bytes]:
    """Tiles as polygons, written in different ways."""
    tiles = pyarrow.table(
        {"tile_id": np.arange(len(CORNERS)), "geometry": [_box(x, y) for x, y in CORNERS.tolist()]}
    )
    found: list[bytes] = []
    for options in PARQUET:
        content = io.BytesIO()
        pyarrow.parquet.write_table(tiles, content, **options)
        found.append(content.getvalue())
    return found


def h5ad_files() -> list[bytes]:
    """AnnData files of tiles, stored whole and in compressed chunks."""
    found: list[bytes] = []
    for options in ({}, {"chunks": True, "compression": "gzip"}):
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file.create_dataset("X", data=FEATURES, **options)
            file.create_dataset("obsm/spatial", data=CORNERS.astype(np.float64), **options)
            for name, value in (("width", 128), ("height", 128), ("base_downsample", 2.0)):
                file[f"uns/tile_spec/{name}"] = value
        found.append(content.getvalue())
    return found


FOLDERS = {name: _write(Path(tempfile.mkdtemp(prefix="fuzz-")), **one) for name, one in STORES.items()}


def _members(*, is_metadata: bool) -> Iterator[tuple[Path, Path]]:
    """The folder of each store, and one file in it: its metadata, or a chunk of its features."""
    for folder in FOLDERS.values():
        table = folder / "s1.zarr" / "tables" / "uni_tiles"
        files = [one for one in table.rglob("*") if one.is_file()]
        for one in files:
            is_chunk = one.name != "zarr.json" and not one.name.startswith(".")
            if is_chunk is not is_metadata and (is_metadata or one.is_relative_to(table / "X")):
                yield folder, one


def metadata_files() -> list[bytes]:
    """The metadata of groups and arrays of all stores."""
    return [path.read_bytes() for _, path in _members(is_metadata=True)]


def chunk_files() -> list[bytes]:
    """The chunks of features of all stores."""
    return [path.read_bytes() for _, path in _members(is_metadata=False)]


def store_reader(*, is_metadata: bool) -> Callable[[Path], object]:
    """Read a store with a damaged file in place of one of its kind; the content says which one."""
    places = list(_members(is_metadata=is_metadata))

    def read(path: Path) -> object:
        content = path.read_bytes()
        return _read(content, *places[zlib.crc32(content) % len(places)])

    return read


def parquet_reader(path: Path) -> object:
    """Read a store with damaged shapes."""
    folder = FOLDERS["zstd"]
    return _read(path.read_bytes(), folder, folder / "s1.zarr" / "shapes" / "tiles" / "shapes.parquet")


def _read(content: bytes, folder: Path, place: Path) -> object:
    whole = place.read_bytes()
    place.write_bytes(content)
    try:
        return read_features(find_feature_file(folder, slide_id="s1"), ROW, label=1)
    finally:
        place.write_bytes(whole)
