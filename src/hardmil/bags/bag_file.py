"""The file of a bag: one HDF5 file per slide, in the layout of TRIDENT."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int64

from hardmil.bags.bag import Bag
from hardmil.bags.h5_fields import (
    as_coords,
    attributes_of,
    check_inside,
    dataset_of,
    size_level0_px_of,
    values_of,
)
from hardmil.bags.provenance import provenance_of_attributes
from hardmil.errors import FeatureFileError
from hardmil.files.h5 import open_h5, write_growing_h5, write_h5

# Attributes of `coords` that TRIDENT's readers expect; an unknown value is "None", as in TRIDENT's files.
_COORDS_ATTRIBUTES = (
    "patch_size",
    "patch_size_level0",
    "level0_magnification",
    "target_magnification",
    "overlap",
    "name",
    "savetodir",
    "level0_width",
    "level0_height",
)


@dataclass(frozen=True, eq=False)
class Coords:
    """The patch coordinates of a slide, without pixels."""

    coords: Int64[np.ndarray, "patch 2"]
    size_level0_px: int
    attributes: Mapping[str, object]


def write_bag(path: Path, bag: Bag, *, attributes: Mapping[str, object]) -> None:
    """Write a bag atomically: datasets `coords`, and `features` or `patches`.

    Args:
        path: `<slide_id>.h5`.
        bag: The bag; its id and sizes become attributes.
        attributes: Those of TRIDENT for `coords` (patch_size, level0_magnification, ...) and any others;
            `encoder` is written to the instances.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    name = "patches" if bag.kind == "pixels" else "features"
    with write_h5(path) as file:
        _put_coords(file, bag.coords, bag.size_level0_px, bag.slide_id, path, attributes)
        dataset = file.create_dataset(name, data=bag.instances)
        _put_instances_attributes(dataset, path, bag.slide_id, attributes)


@contextmanager
def write_bag_in_parts(
    path: Path,
    coords: Int64[np.ndarray, "patch 2"],
    *,
    slide_id: str,
    size_level0_px: int,
    attributes: Mapping[str, object],
) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """A function that writes a bag file in parts; the file appears when the block ends without an error.

    Call it with the indices of some patches, ascending, and their instances: uint8 (part, height, width, 3)
    or float16 (part, dim). Only one part is in memory. A slide without patches gets `features` (0, 0).

    Args:
        path: `<slide_id>.h5`.
        coords: Coordinates of all patches, in level-0 px.
        slide_id: Id of the slide.
        size_level0_px: Edge of a patch in level-0 px.
        attributes: As in `write_bag`.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    with write_growing_h5(path) as (file, raise_write_error):
        _put_coords(file, coords, size_level0_px, slide_id, path, attributes)

        def put(members: np.ndarray, instances: np.ndarray) -> None:
            name = "patches" if instances.dtype == np.uint8 else "features"
            if name not in file:
                shape = (len(coords), *instances.shape[1:])
                dataset = file.create_dataset(name, shape=shape, dtype=instances.dtype)
                _put_instances_attributes(dataset, path, slide_id, attributes)
            for run in np.split(np.arange(len(members)), np.flatnonzero(np.diff(members) != 1) + 1):
                start = int(members[run[0]])
                dataset_of(file, name)[start : start + len(run)] = instances[run[0] : run[-1] + 1]
            raise_write_error()

        yield put
        if len(coords) == 0:
            dataset = file.create_dataset("features", shape=(0, 0), dtype=np.float16)
            _put_instances_attributes(dataset, path, slide_id, attributes)


def read_bag(path: Path, *, case_id: str, label: int, slide_id: str | None = None) -> Bag:
    """The bag in an HDF5 file of hardmil, TRIDENT or CLAM.

    Features of shape (1, N, D) become (N, D), float64 becomes float32. A file without a patch size (features
    of CLAM) gives a size of 0.

    Args:
        path: The file.
        case_id: Case of the slide, from the table.
        label: 0, 1, or -1 for unknown.
        slide_id: Id of the slide; by default the id in the file, else the name of the file.

    Raises:
        FeatureFileError: If the file is damaged, or in an unknown layout.
        EmptyBagError: If it has no instances.
        BagError: If instances and coords do not match, or features are not finite.
    """
    with open_h5(path) as file:
        name = next((name for name in ("features", "patches") if name in file), None)
        if name is None or "coords" not in file:
            raise FeatureFileError(
                f"{path}: found {_listing(file)}; expected datasets coords, and features or patches; "
                "write it with hardmil, TRIDENT or CLAM"
            )
        attributes = attributes_of(dataset_of(file, "coords"))
        coords = as_coords(values_of(file, "coords"), path=path)
        check_inside(coords, attributes, path=path)
        return Bag(
            slide_id=slide_id or str(attributes.get("name", "")) or path.stem,
            case_id=case_id,
            label=label,
            instances=as_instances(values_of(file, name)),
            coords=coords,
            size_level0_px=size_level0_px_of(attributes, path=path),
            provenance=provenance_of_attributes(attributes, attributes_of(dataset_of(file, name))),
        )


def write_coords(
    path: Path,
    coords: Int64[np.ndarray, "patch 2"],
    *,
    slide_id: str,
    size_level0_px: int,
    attributes: Mapping[str, object],
) -> None:
    """Write the patch coordinates of a slide, as in TRIDENT's `patches/<slide_id>_patches.h5`.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    with write_h5(path) as file:
        _put_coords(file, coords, size_level0_px, slide_id, path, attributes)


def read_coords(path: Path) -> Coords:
    """The patch coordinates of a slide; there may be none.

    Raises:
        FeatureFileError: If the file is damaged, or has no dataset `coords`.
    """
    with open_h5(path) as file:
        if "coords" not in file:
            raise FeatureFileError(
                f"{path}: found {_listing(file)}; expected a dataset coords; write the file again"
            )
        attributes = attributes_of(dataset_of(file, "coords"))
        coords = as_coords(values_of(file, "coords"), path=path)
        size = size_level0_px_of(attributes, path=path)
        return Coords(coords=coords, size_level0_px=size, attributes=attributes)


def as_instances(array: np.ndarray) -> np.ndarray:
    """An array from a file in the form that a bag needs: without a leading 1, features at most float32."""
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim == 1 and len(array) == 0:
        array = array.reshape(0, 1)
    with np.errstate(over="ignore"):
        # A value too large for float32 becomes infinite, which `Bag` refuses.
        return array.astype(np.float32) if array.dtype == np.float64 else array


def _put_coords(
    file: h5py.File,
    coords: np.ndarray,
    size_level0_px: int,
    slide_id: str,
    path: Path,
    attributes: Mapping[str, object],
) -> None:
    """Write the coordinates; the attribute `encoder` belongs to the instances and is left out."""
    dataset = file.create_dataset("coords", data=coords)
    given = {key: value for key, value in attributes.items() if key != "encoder"}
    ours = {
        "patch_size": attributes.get("patch_size", size_level0_px),
        "patch_size_level0": size_level0_px,
        "overlap": attributes.get("overlap", 0),
        "name": slide_id,
        "savetodir": path.parent.name,
    }
    _put(dataset, {**dict.fromkeys(_COORDS_ATTRIBUTES, None), **given, **ours})


def _put_instances_attributes(
    dataset: h5py.Dataset, path: Path, slide_id: str, attributes: Mapping[str, object]
) -> None:
    _put(dataset, {"name": slide_id, "savetodir": path.parent.name})
    if dataset.name == "/features":
        _put(dataset, {"encoder": attributes.get("encoder", "None")})


def _put(dataset: h5py.Dataset, attributes: Mapping[str, object]) -> None:
    for key, value in attributes.items():
        dataset.attrs[key] = "None" if value is None else value


def _listing(file: h5py.File) -> str:
    return ", ".join(sorted(file)) or "nothing"
