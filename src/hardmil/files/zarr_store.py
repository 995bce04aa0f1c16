"""Reading arrays of zarr stores on disk: checked before they are decoded, with errors that name the store."""

import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hardmil.budget import too_large_for
from hardmil.errors import FeatureFileError, HardmilError
from hardmil.files.zarr_chunks import chunk_problem

PACKAGES = ("zarr", "pyarrow")
MAX_CHUNKS = 1_000_000
"""Most chunks of an array."""
_DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, RuntimeError, MemoryError, zlib.error),
)
"""What zarr and its decoders raise when a store is damaged."""


@contextmanager
def open_store(path: Path, *, mode: Literal["r", "r+"] = "r") -> Iterator[Any]:
    """A group of a store on disk, opened with zarr; its own metadata counts, not what the store consolidated.

    Raises:
        FeatureFileError: If a package is missing, the group cannot be read, or has links.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise FeatureFileError(
            f"{path}: is a zarr store, which needs {' and '.join(missing)}, not installed here; install with "
            "pip install 'hardmil[scverse]'"
        )
    import zarr

    check_no_links(path)
    try:
        yield zarr.open_group(path, mode=mode, use_consolidated=False)
    except HardmilError:
        raise
    except _DAMAGED as error:
        raise FeatureFileError(
            f"{path}: cannot be read ({error}); expected a zarr group; it is damaged or incomplete: copy it "
            "or write it again"
        ) from error


def array_of(group: Any, name: str, *, path: Path) -> np.ndarray:
    """The values of an array of numbers.

    Raises:
        FeatureFileError: If there is no such array, it is not of numbers, or it would take too much memory.
    """
    found = group.get(name)
    if not hasattr(found, "dtype"):
        what = "a group, such as a sparse matrix" if found is not None else "missing"
        raise FeatureFileError(f"{path}: {name} is {what}; expected an array of numbers; write it again")
    if np.dtype(found.dtype).kind not in "iuf":
        raise FeatureFileError(f"{path}: {name} holds {found.dtype}; expected numbers; write it again")
    outer = found.shards or found.chunks
    n_outer = math.prod(-(-n // max(edge, 1)) for n, edge in zip(found.shape, outer, strict=True))
    n_chunks = n_outer * math.prod(outer) // max(math.prod(found.chunks), 1)
    n_bytes = max(math.prod(found.shape), n_outer * math.prod(outer)) * np.dtype(found.dtype).itemsize
    reason = too_large_for(n_bytes, stored=stored_bytes(path / name))
    if reason is None and n_chunks > MAX_CHUNKS:
        reason = f"stored in {n_chunks:,} chunks; expected at most {MAX_CHUNKS:,}"
    if reason is None:
        reason = chunk_problem(found, path / name)
    if reason is not None:
        raise FeatureFileError(f"{path}: {name} is {found.dtype} {found.shape}, {reason}; write it again")
    return np.asarray(found[...])


def stored_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(os.path.getsize(Path(at) / name) for at, _, names in os.walk(folder) for name in names)


def check_no_links(folder: Path) -> None:
    """Check that everything in a folder is in it, and not somewhere else.

    Raises:
        FeatureFileError: If something is a symbolic link.
    """
    for at, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if (Path(at) / name).is_symlink():
                raise FeatureFileError(
                    f"{Path(at) / name}: is a link; expected values in this store; copy them into it"
                )
