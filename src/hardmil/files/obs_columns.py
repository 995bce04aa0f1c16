"""Columns added to the table of observations, `obs`, of an AnnData file or of a table in a zarr store.

Everything else in the file stays as it is. The format is that of anndata's data frames, version 0.2.0: an
array for each column, and their order in the attribute `column-order`.
"""

import shutil
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from hardmil.errors import FeatureFileError
from hardmil.files.atomic import store_errors, write_atomically
from hardmil.files.zarr_store import open_store

_ENCODING = {"encoding-type": "array", "encoding-version": "0.2.0"}
_ORDER = "column-order"


def write_obs_columns(path: Path, columns: Mapping[str, Float[np.ndarray, " row"]]) -> None:
    """Add columns to `obs`; those of the same names are replaced.

    An .h5ad file is replaced as a whole when the copy with the columns is complete. In a zarr store, a column
    appears when all of it is on disk.

    Args:
        path: An .h5ad file, or the folder of a table in a store.
        columns: Values for each row, by name.

    Raises:
        FeatureFileError: If the file cannot be read, or has another number of rows.
        StoreError: If the disk is full, or the file is not writable.
    """
    values = {name: np.asarray(one, dtype=np.float32) for name, one in columns.items()}
    if path.suffix == ".h5ad":
        _write_h5ad(path, values)
    elif path.is_dir():
        _write_zarr(path, values)
    else:
        raise FeatureFileError(
            f"{path}: is not an AnnData table; expected .h5ad or a .zarr store to add columns to; leave out "
            "--write-obs"
        )


def _write_h5ad(path: Path, columns: Mapping[str, Float[np.ndarray, " row"]]) -> None:
    # Where the file is a link, the file that it leads to is replaced.
    path = path.resolve()
    mode = path.stat().st_mode
    with write_atomically(path) as draft:
        shutil.copyfile(path, draft)
        with h5py.File(draft, "r+") as file:
            obs: Any = file["obs"]
            _check_rows(obs, columns, path=path)
            for name, values in columns.items():
                if name in obs:
                    del obs[name]
                obs.create_dataset(name, data=values).attrs.update(_ENCODING)
            order = _order(obs.attrs.get(_ORDER, ()), columns)
            obs.attrs[_ORDER] = np.array(order, dtype=h5py.string_dtype())
    with store_errors(path, every=True):
        path.chmod(stat.S_IMODE(mode))


def _write_zarr(table: Path, columns: Mapping[str, Float[np.ndarray, " row"]]) -> None:
    with open_store(table, mode="r+") as group, store_errors(table):
        obs = group["obs"]
        _check_rows(obs, columns, path=table)
        for name, values in columns.items():
            old = obs.get(name)
            shape, kind = values.shape, values.dtype
            if old is not None and (old.shape, old.dtype, old.chunks) == (shape, kind, shape):
                # One chunk, and so one file, which is replaced as a whole.
                old[...] = values
                continue
            column = obs.create_array(name, shape=shape, dtype=kind, chunks=shape, overwrite=True)
            column[...] = values
            column.attrs.update(_ENCODING)
        obs.attrs[_ORDER] = _order(obs.attrs.get(_ORDER, ()), columns)
    with store_errors(table):
        _consolidate(table.parent.parent)


def _consolidate(store: Path) -> None:
    """Write the metadata of a store in one place again, if it was there: readers look there first."""
    import zarr

    root = zarr.open_group(store, mode="r")
    if root.metadata.consolidated_metadata is None:
        return
    with warnings.catch_warnings():
        # That the tables of shapes are not of zarr.
        warnings.simplefilter("ignore", category=UserWarning)
        zarr.consolidate_metadata(store, zarr_format=root.metadata.zarr_format)


def _check_rows(obs: Any, columns: Mapping[str, Float[np.ndarray, " row"]], *, path: Path) -> None:
    index = str(obs.attrs.get("_index", ""))
    n_rows = obs[index].shape[0] if index in obs else None
    found = {len(values) for values in columns.values()}
    if found != {n_rows}:
        raise FeatureFileError(
            f"{path}: obs has {n_rows} rows, and there are values for {found}; expected the same; the file "
            "was changed meanwhile: run the command again"
        )


def _order(known: Any, columns: Mapping[str, object]) -> list[str]:
    """The columns in their order, new ones last."""
    return list(dict.fromkeys([*(str(name) for name in known), *columns]))
