"""What a feature file says, as numbers that can be trusted: places, patch size, attributes."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import h5py
import numpy as np
from jaxtyping import Int64

from hardmil.errors import FeatureFileError


def as_coords(array: np.ndarray, *, path: Path) -> np.ndarray:
    """(N, 2) int64 of whatever whole numbers a tool wrote; (1, N, 2) loses its 1.

    Raises:
        FeatureFileError: If it holds anything else.
    """
    if array.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    squeezed = array[0] if array.ndim == 3 and len(array) == 1 else array
    is_pairs = squeezed.ndim == 2 and squeezed.shape[1] == 2 and squeezed.dtype.kind in "iuf"
    if not is_pairs or not np.isfinite(squeezed).all() or not np.all(np.mod(squeezed, 1) == 0):
        raise FeatureFileError(
            f"{path}: coords are {array.dtype} {array.shape}; expected whole level-0 pixels (n, 2), x then y"
        )
    if np.abs(squeezed.astype(np.float64)).max() > 2**40:
        raise FeatureFileError(f"{path}: coords reach {squeezed.max()}; expected level-0 pixels of a slide")
    return squeezed.astype(np.int64)


def check_inside(
    coords: Int64[np.ndarray, "patch 2"], attributes: Mapping[str, object], *, path: Path
) -> None:
    """Refuse a patch whose corner is not in the slide, where the file says how large that is.

    Raises:
        FeatureFileError: If there is one; the first is named.
    """
    size = [attributes.get("level0_width"), attributes.get("level0_height")]
    if len(coords) == 0 or not all(isinstance(edge, int | float) for edge in size):
        return
    outside = np.flatnonzero(((coords < 0) | (coords >= np.array(size, dtype=np.float64))).any(axis=1))
    if len(outside):
        x, y = coords[outside[0]]
        raise FeatureFileError(
            f"{path}: {len(outside)} of {len(coords)} patches lie outside the slide, first ({x}, {y}); "
            f"the slide is {size[0]} x {size[1]} px; expected the coords of this slide; write it again"
        )


def size_level0_px_of(attributes: Mapping[str, object], *, path: Path) -> int:
    """The patch size that the file names; CLAM's is in pixels of its level. 0 if it says nothing.

    Raises:
        FeatureFileError: If it is no number of pixels.
    """
    if attributes.get("patch_size_level0", "None") != "None":
        size = attributes["patch_size_level0"]
    else:
        downsample = np.ravel(cast(np.ndarray, attributes.get("downsample", 1))).tolist()
        size, level = attributes.get("patch_size", 0), downsample[0] if downsample else None
        size = 0 if size == "None" else size
        size = size * level if isinstance(size, int | float) and isinstance(level, int | float) else None
    if not isinstance(size, int | float) or not 0 <= size < 2**31:
        raise FeatureFileError(
            f"{path}: its patch size is {size!r}; expected level-0 pixels, a number; write it again"
        )
    return round(size)


def dataset_of(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset of this name.

    Raises:
        FeatureFileError: If there is a group in its place.
    """
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise FeatureFileError(
            f"{file.filename}: {name} is a group; expected a dataset; write it with hardmil, TRIDENT or CLAM"
        )
    return found


def attributes_of(dataset: h5py.Dataset | h5py.File) -> dict[str, object]:
    """Its attributes, numbers as Python's own."""
    return {key: plain(value) for key, value in dataset.attrs.items()}


def plain(value: object) -> object:
    """A number as Python's own; h5py gives numpy's."""
    return value.item() if isinstance(value, np.generic) else value
