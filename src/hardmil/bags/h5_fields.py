"""Checked values from a feature file: coordinates, patch size, attributes."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import h5py
import numpy as np
from jaxtyping import Int64

from hardmil.errors import FeatureFileError
from hardmil.files.h5_checks import check_attributes, check_dataset


def as_coords(array: np.ndarray, *, path: Path) -> np.ndarray:
    """Coordinates as int64 (N, 2), from integers of any type in (N, 2) or (1, N, 2).

    Raises:
        FeatureFileError: If the array contains anything else.
    """
    if array.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    squeezed = array[0] if array.ndim == 3 and len(array) == 1 else array
    is_pairs = squeezed.ndim == 2 and squeezed.shape[1] == 2 and squeezed.dtype.kind in "iuf"
    if not is_pairs or not np.isfinite(squeezed).all() or not np.all(np.mod(squeezed, 1) == 0):
        raise FeatureFileError(
            f"{path}: coords are {array.dtype} {array.shape}; expected integer level-0 pixels (n, 2), x then "
            "y; write it again"
        )
    if np.abs(squeezed.astype(np.float64)).max() > 2**40:
        raise FeatureFileError(
            f"{path}: coords are up to {squeezed.max()}; expected level-0 pixels of a slide; write it again"
        )
    return squeezed.astype(np.int64)


def check_inside(
    coords: Int64[np.ndarray, "patch 2"], attributes: Mapping[str, object], *, path: Path
) -> None:
    """Check that the corners of all patches are inside the slide, if the file states the slide's size.

    Raises:
        FeatureFileError: If one is outside; the first is named.
    """
    size = [attributes.get("level0_width"), attributes.get("level0_height")]
    if len(coords) == 0 or not all(isinstance(edge, int | float) for edge in size):
        return
    outside = np.flatnonzero(((coords < 0) | (coords >= np.array(size, dtype=np.float64))).any(axis=1))
    if len(outside):
        x, y = coords[outside[0]]
        raise FeatureFileError(
            f"{path}: {len(outside)} of {len(coords)} patches are outside the slide, first ({x}, {y}); "
            f"expected coords inside its {size[0]} x {size[1]} px; write it again"
        )


def size_level0_px_of(attributes: Mapping[str, object], *, path: Path) -> int:
    """The patch size in the file, in level-0 px; CLAM's is converted from its level.

    0 if there is none, or if it is in px of a coarser level and the file does not say how coarse.

    Raises:
        FeatureFileError: If it is not a valid number of pixels.
    """
    size = _one_number(attributes.get("patch_size_level0", "None"))
    if str(size) == "None":
        if "downsample" not in attributes and attributes.get("patch_level") not in (None, "None", 0):
            return 0
        downsample = np.ravel(cast(np.ndarray, attributes.get("downsample", 1))).tolist()
        size, level = _one_number(attributes.get("patch_size", 0)), downsample[0] if downsample else None
        size = 0 if str(size) == "None" else size
        size = size * level if isinstance(size, int | float) and isinstance(level, int | float) else None
    if not isinstance(size, int | float) or not 0 <= size < 2**31:
        raise FeatureFileError(
            f"{path}: its patch size is {size!r}; expected a number of level-0 pixels; write it again"
        )
    return round(size)


def _one_number(value: object) -> object:
    """The number that an array repeats, such as (512, 512) for width and height; other values as they are."""
    if isinstance(value, np.ndarray) and value.size > 0 and (value == value.flat[0]).all():
        return plain(value.flat[0])
    return value


def dataset_of(group: h5py.Group, name: str) -> h5py.Dataset:
    """The dataset with this name.

    Raises:
        FeatureFileError: If the name is that of a group.
    """
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise FeatureFileError(
            f"{group.file.filename}: {name} is a group; expected a dataset; write it with hardmil, "
            "TRIDENT or CLAM"
        )
    return found


def group_of(file: h5py.File, name: str) -> h5py.Group:
    """The group with this name.

    Raises:
        FeatureFileError: If the name is that of a dataset.
    """
    found = file[name]
    if not isinstance(found, h5py.Group):
        raise FeatureFileError(
            f"{file.filename}: {name} is a dataset; expected a group; write the file again"
        )
    return found


def values_of(group: h5py.Group, name: str) -> np.ndarray:
    """The values of the dataset with this name, which are numbers.

    Raises:
        FeatureFileError: If they are not numbers in this file, or would take too much memory.
    """
    dataset = dataset_of(group, name)
    check_dataset(dataset, path=Path(group.file.filename))
    return np.asarray(dataset[()])


def attributes_of(item: h5py.Dataset | h5py.Group) -> dict[str, object]:
    """The attributes that are numbers or text, with single numbers as Python types.

    Raises:
        FeatureFileError: If one is too large.
    """
    names = check_attributes(item, path=Path(item.file.filename))
    return {name: plain(item.attrs[name]) for name in names}


def plain(value: object) -> object:
    """The value as a Python type if it is a numpy scalar, as h5py returns them."""
    return value.item() if isinstance(value, np.generic) else value
