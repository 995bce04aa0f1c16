"""SpatialData stores (.zarr) of LazySlide and wsidata: a table of features, and the tiles as polygons.

Needs zarr and pyarrow (hardmil[scverse]), which are imported when a store is read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import as_instances
from hardmil.bags.provenance import Provenance
from hardmil.bags.slide_table import SlideRow
from hardmil.budget import too_large
from hardmil.errors import FeatureFileError
from hardmil.files.atomic import visible
from hardmil.files.parquet_pages import pages_problem
from hardmil.files.zarr_store import array_of, check_no_links, open_store

TABLES, SHAPES, PARQUET = "tables", "shapes", "shapes.parquet"
_GEOMETRY = "geometry"
BOX_BYTES = 93
"""A rectangle as WKB: byte order, type, number of rings and points, and five points of two numbers."""
_HEADER = {"order": 1, "kind": 3, "n_rings": 1, "n": 5}
_BOX = np.dtype(
    [("order", "u1"), ("kind", "<u4"), ("n_rings", "<u4"), ("n", "<u4"), ("points", "<f8", (5, 2))]
)


def find_table(store: Path, *, name: str = "") -> Path:
    """The folder of a table of features in a store: the one of this name, or the only one.

    A name may lack the tiles at its end: `uni` is the table `uni_tiles`.

    Raises:
        FeatureFileError: If there is no such table, or there are several and none is named.
    """
    found = [path for path in visible((store / TABLES).glob("*")) if (path / "X").is_dir()]
    found = [path for path in found if not path.name.endswith("_graph")]
    named = [path for path in found if path.name == name] or [
        path for path in found if not name or path.name.startswith(f"{name}_")
    ]
    if len(named) == 1:
        return named[0]
    tables = ", ".join(path.name for path in found) or "none"
    folder = store.parent.parent / store.parent.name if name else store.parent
    wanted = f"one named {name}" if name else "one"
    raise FeatureFileError(
        f"{store}: its tables of features are {tables}; expected {wanted}; name the table after the folder, "
        f"as in features: {folder / (found[0].name if found else 'uni_tiles')}"
    )


def is_table(path: Path) -> bool:
    """Whether a path is that of a table in a store."""
    return path.parent.name == TABLES and path.parent.parent.suffix == ".zarr"


def store_bag(table: Path, row: SlideRow, *, label: int) -> Bag:
    """The bag in a table of a store, in the order of its rows; corners and size are those of the tiles.

    The name of the table is taken as that of the encoder.

    Raises:
        FeatureFileError: If the store is damaged, a package is missing, or tiles have no square of one size.
        EmptyBagError: If it has no tiles.
        BagError: If its features are not finite.

    Source: `wsidata/io/_elems.py:add_tiles` and `add_features`, github.com/rendeirolab/wsidata, and
    `TableModel` of github.com/scverse/spatialdata.
    """
    with open_store(table) as group:
        attributes = dict(group.attrs)
        region, key = attributes.get("region"), attributes.get("instance_key")
        if not isinstance(region, str) or not isinstance(key, str):
            raise FeatureFileError(
                f"{table}: annotates {region!r} by {key!r}; expected one set of tiles and its key; write the "
                "features of each slide on its own"
            )
        features = as_instances(array_of(group, "X", path=table))
        ids = array_of(group, f"obs/{key}", path=table)
    if ids.ndim != 1:
        raise FeatureFileError(f"{table}: {key} has the shape {ids.shape}; expected a column; write it again")
    boxes = _boxes(table.parent.parent / SHAPES / region, key=key)
    coords, size = _squares(ids, boxes, table=table)
    if len(features) != len(coords):
        raise FeatureFileError(
            f"{table}: {len(features)} rows in X and {len(coords)} in obs; expected the same; write it again"
        )
    encoder = table.name.removesuffix(f"_{region}")
    provenance = Provenance(encoder=encoder or None)
    return Bag(row.slide_id, row.case_id, label, features, coords, size_level0_px=size, provenance=provenance)


def _squares(
    ids: np.ndarray, boxes: Mapping[int, Float[np.ndarray, "4"]], *, table: Path
) -> tuple[Int64[np.ndarray, "tile 2"], int]:
    """Corners and edge of the tiles of a table, level-0 px."""
    missing = [one for one in ids.tolist() if one not in boxes]
    if missing:
        raise FeatureFileError(
            f"{table}: tile {missing[0]} is not among the tiles of the slide, with {len(missing) - 1} more; "
            "expected the tiles that the features were made of; extract the features again"
        )
    if len(ids) == 0:
        return np.zeros((0, 2), dtype=np.int64), 0
    found = np.stack([boxes[one] for one in ids.tolist()])
    edges = found[:, 2:] - found[:, :2]
    is_known = np.isfinite(found).all() and np.abs(found).max() <= 2**40
    if not is_known or not np.allclose(edges, edges[0, 0], atol=1):
        raise FeatureFileError(
            f"{table}: its tiles are not squares of one size; expected those of one call of tile_tissues; "
            "cut square tiles"
        )
    return np.rint(found[:, :2]).astype(np.int64), round(float(edges[0, 0]))


def _boxes(folder: Path, *, key: str) -> dict[int, Float[np.ndarray, "4"]]:
    """The rectangle of each tile by its id: left, top, right, bottom.

    Raises:
        FeatureFileError: If the file of the shapes is missing or damaged, or has other polygons.
    """
    path = folder / PARQUET
    check_no_links(folder)
    polygons, ids = _read_parquet(path, key=key)
    boxes = np.frombuffer(b"".join(polygons), dtype=_BOX)
    if not all((boxes[name] == value).all() for name, value in _HEADER.items()):
        raise _not_boxes(path)
    corners = np.concatenate([boxes["points"].min(axis=1), boxes["points"].max(axis=1)], axis=1)
    return dict(zip(ids, corners, strict=True))


def _read_parquet(path: Path, *, key: str) -> tuple[list[bytes], list[Any]]:
    """The polygons in a file of shapes, each of `BOX_BYTES`, and their ids: of a column, else their numbers.

    Raises:
        FeatureFileError: If the file cannot be read, would take too much memory, or has other columns.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = _columns(file.schema_arrow, key=key, path=path)
        # A dictionary stays one: a value that is stored once does not become as many as there are rows.
        with pyarrow.parquet.ParquetFile(path, read_dictionary=[_GEOMETRY]) as file:
            reason = too_large(file.metadata.num_rows * BOX_BYTES, path=path)
            reason = f"takes {reason}" if reason else pages_problem(path, columns=columns)
            if reason is not None:
                raise FeatureFileError(f"{path}: {reason}; write it again")
            table = file.read(columns=list(columns))
            table.validate(full=True)
    except FeatureFileError:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise FeatureFileError(
            f"{path}: cannot be read ({error}); expected the tiles of the slide; copy the store, or write it "
            "again"
        ) from error
    ids = table.column(key).to_pylist() if key in columns else [*range(table.num_rows)]
    return _polygons(table.column(_GEOMETRY), path=path), ids


def _columns(schema: Any, *, key: str, path: Path) -> tuple[str, ...]:
    """The columns to read: the polygons, and the ids if they are a column.

    Raises:
        FeatureFileError: If there are no polygons as well-known binary, or ids are not whole numbers.
    """
    import pyarrow

    kinds = {name: schema.field(name).type for name in {_GEOMETRY, key} & set(schema.names)}
    if _GEOMETRY not in kinds:
        raise FeatureFileError(f"{path}: no column {_GEOMETRY}; expected polygons; write it again")
    kind = kinds[_GEOMETRY]
    if kind not in (pyarrow.binary(), pyarrow.large_binary()):
        raise FeatureFileError(f"{path}: {_GEOMETRY} holds {kind}; expected polygons as WKB; write it again")
    if key in kinds and key != _GEOMETRY and not pyarrow.types.is_integer(kinds[key]):
        raise FeatureFileError(f"{path}: {key} holds {kinds[key]}; expected numbers; write it again")
    return tuple(kinds)


def _not_boxes(path: Path) -> FeatureFileError:
    return FeatureFileError(f"{path}: its polygons are not rectangles; expected tiles; cut square tiles")


def _polygons(column: Any, *, path: Path) -> list[bytes]:
    """The polygons of a column, whose lengths are checked where each is there once.

    Raises:
        FeatureFileError: If one is missing, or not as long as a rectangle.
    """
    for chunk in column.chunks:
        lengths = {None if one is None else len(one) for one in chunk.dictionary.to_pylist()}
        if chunk.null_count or not lengths <= {BOX_BYTES}:
            raise _not_boxes(path)
    return column.to_pylist()
