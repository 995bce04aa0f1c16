"""A bag, in memory and in our file: one HDF5 a slide, in TRIDENT's layout."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from jaxtyping import Int64

from hardmil.bags.h5_fields import as_coords, attributes_of, check_inside, dataset_of, size_level0_px_of
from hardmil.bags.provenance import UNKNOWN_MADE, Made, made_by_attributes
from hardmil.errors import BagError, EmptyBagError, FeatureFileError
from hardmil.files.h5 import open_h5, write_growing_h5, write_h5

# What TRIDENT's own readers look for on `coords`; a value that we do not know is "None", as it writes one.
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
class Bag:
    """The instances of one slide, in level-0 pixels.

    `label` is 0, 1, or -1 if not known. `instances` are features, float16 or float32 (n, dim), or pixels,
    uint8 (n, height, width, 3). `coords` are int64 (n, 2): (x, y) of each patch's top-left corner, and
    `size_level0_px` is the edge of a patch; a size of 0 says that places are not known (coords all 0).

    `instance_labels` are what is known of single instances: 1 lesion, 0 normal, nan not known;
    `instance_weights` are theirs in the instance loss. Both are float32 (n,), or None: nothing known, all
    alike. `made` says which encoder, and which patches, they came of, as far as that is known.

    Raises:
        EmptyBagError: If there is no instance.
        BagError: If instances and coords do not fit each other, or features are not finite.
    """

    slide_id: str
    case_id: str
    label: int
    # Shapes are checked below, in the user's words: a bag is where a user's arrays come in.
    instances: np.ndarray
    coords: np.ndarray
    size_level0_px: int
    instance_labels: np.ndarray | None = None
    instance_weights: np.ndarray | None = None
    made: Made = UNKNOWN_MADE

    def __post_init__(self) -> None:
        if len(self.instances) == 0:
            raise EmptyBagError(
                f"slide {self.slide_id}: no patch in its bag; check its tissue, or leave it out"
            )
        if self.label not in (-1, 0, 1):
            raise BagError(f"slide {self.slide_id}: label {self.label}; expected 0, 1, or -1 for not known")
        _check_instances(self.instances, slide_id=self.slide_id)
        if self.coords.shape != (len(self.instances), 2) or self.coords.dtype != np.int64:
            raise BagError(
                f"slide {self.slide_id}: {len(self.instances)} instances, but coords {self.coords.dtype} "
                f"{self.coords.shape}; expected int64 ({len(self.instances)}, 2); cut or encode it again"
            )
        for known in (self.instance_labels, self.instance_weights):
            if known is not None and known.shape != (len(self.instances),):
                raise BagError(
                    f"slide {self.slide_id}: {len(self.instances)} instances, but {known.shape} labels or "
                    "weights of them; expected one each"
                )

    def take(self, index: np.ndarray) -> "Bag":
        """The bag of these instances alone."""
        labels, weights = self.instance_labels, self.instance_weights
        return replace(
            self,
            instances=self.instances[index],
            coords=self.coords[index],
            instance_labels=None if labels is None else labels[index],
            instance_weights=None if weights is None else weights[index],
        )

    def places(self) -> dict[tuple[int, int], int]:
        """Which instance has its top-left corner at (x, y)."""
        return {(int(x), int(y)): position for position, (x, y) in enumerate(self.coords)}

    @property
    def kind(self) -> Literal["pixels", "features"]:
        """Whether the instances are patches of pixels or vectors."""
        return "pixels" if self.instances.dtype == np.uint8 else "features"

    def __len__(self) -> int:
        return len(self.instances)


@dataclass(frozen=True, eq=False)
class Coords:
    """Where the patches of a slide are, without their pixels."""

    coords: Int64[np.ndarray, "patch 2"]
    size_level0_px: int
    attributes: Mapping[str, object]


def write_bag(path: Path, bag: Bag, *, attributes: Mapping[str, object]) -> None:
    """Write a bag: datasets `coords`, and `features` or `patches`; whole or not at all.

    Args:
        path: `<slide_id>.h5`.
        bag: Its id, sizes and places are filled in here.
        attributes: TRIDENT's for `coords` (patch_size, level0_magnification, ...) and any of our own;
            `encoder` goes to the instances.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    name = "patches" if bag.kind == "pixels" else "features"
    on_coords = {key: value for key, value in attributes.items() if key != "encoder"}
    with write_h5(path) as file:
        _put_coords(file, bag.coords, bag.size_level0_px, bag.slide_id, path, on_coords)
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
    """A bag file whose instances come a part at a time; whole at `path` when the block ends without an error.

    Call what it yields with the indices of some patches, ascending, and their instances: uint8 (part, height,
    width, 3) or float16 (part, dim). Memory holds one part. A slide without a patch gets `features` (0, 0).

    Args:
        path: `<slide_id>.h5`.
        coords: Of all patches, in level-0 px.
        slide_id: The slide's.
        size_level0_px: Edge of a patch in level-0 px.
        attributes: As those of `write_bag`.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    on_coords = {key: value for key, value in attributes.items() if key != "encoder"}
    with write_growing_h5(path) as (file, raise_if_full):
        _put_coords(file, coords, size_level0_px, slide_id, path, on_coords)

        def put(members: np.ndarray, instances: np.ndarray) -> None:
            name = "patches" if instances.dtype == np.uint8 else "features"
            if name not in file:
                shape = (len(coords), *instances.shape[1:])
                dataset = file.create_dataset(name, shape=shape, dtype=instances.dtype)
                _put_instances_attributes(dataset, path, slide_id, attributes)
            for run in np.split(np.arange(len(members)), np.flatnonzero(np.diff(members) != 1) + 1):
                start = int(members[run[0]])
                dataset_of(file, name)[start : start + len(run)] = instances[run[0] : run[-1] + 1]
            raise_if_full()

        yield put
        if len(coords) == 0:
            dataset = file.create_dataset("features", shape=(0, 0), dtype=np.float16)
            _put_instances_attributes(dataset, path, slide_id, attributes)


def read_bag(path: Path, *, case_id: str, label: int, slide_id: str | None = None) -> Bag:
    """The bag in an HDF5 file of ours, TRIDENT's or CLAM's.

    Features of shape (1, N, D) lose the 1, float64 becomes float32. A file without patch size (CLAM's
    features) gives a size of 0.

    Args:
        path: The file.
        case_id: Of the slide, from the table.
        label: 0, 1, or -1 for not known.
        slide_id: None: as the file says, else the file's name.

    Raises:
        FeatureFileError: If the file is damaged, or holds no instances that we know.
        EmptyBagError: If it holds none at all.
        BagError: If instances and coords do not fit each other, or features are not finite.
    """
    with open_h5(path) as file:
        name = next((name for name in ("features", "patches") if name in file), None)
        if name is None or "coords" not in file:
            raise FeatureFileError(
                f"{path}: found {_listing(file)}; expected datasets coords, and features or patches; "
                "write it with hardmil, TRIDENT or CLAM"
            )
        instances, attributes = dataset_of(file, name), attributes_of(dataset_of(file, "coords"))
        coords = as_coords(dataset_of(file, "coords")[()], path=path)
        check_inside(coords, attributes, path=path)
        return Bag(
            slide_id=slide_id or str(attributes.get("name", "")) or path.stem,
            case_id=case_id,
            label=label,
            instances=as_instances(instances[()]),
            coords=coords,
            size_level0_px=size_level0_px_of(attributes, path=path),
            made=made_by_attributes(attributes, attributes_of(instances)),
        )


def write_coords(
    path: Path,
    coords: Int64[np.ndarray, "patch 2"],
    *,
    slide_id: str,
    size_level0_px: int,
    attributes: Mapping[str, object],
) -> None:
    """Write where a slide's patches are, as TRIDENT's `patches/<slide_id>_patches.h5`.

    Raises:
        StoreError: If the disk is full, or the folder may not be written.
    """
    with write_h5(path) as file:
        _put_coords(file, coords, size_level0_px, slide_id, path, attributes)


def read_coords(path: Path) -> Coords:
    """Where a slide's patches are; there may be none.

    Raises:
        FeatureFileError: If the file is damaged, or has no coords.
    """
    with open_h5(path) as file:
        if "coords" not in file:
            raise FeatureFileError(f"{path}: found {_listing(file)}; expected a dataset coords; cut it again")
        dataset = dataset_of(file, "coords")
        attributes = attributes_of(dataset)
        coords = as_coords(dataset[()], path=path)
        size = size_level0_px_of(attributes, path=path)
        return Coords(coords=coords, size_level0_px=size, attributes=attributes)


def as_instances(array: np.ndarray) -> np.ndarray:
    """An array of a file as a bag takes it: a leading 1 dropped, features at most float32."""
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim == 0:
        array = array.reshape(1)
    if array.ndim == 1 and len(array) == 0:
        array = array.reshape(0, 1)
    with np.errstate(over="ignore"):
        # What is too large for float32 becomes infinite, which a bag refuses in words.
        return array.astype(np.float32) if array.dtype == np.float64 else array


def _put_coords(
    file: h5py.File,
    coords: np.ndarray,
    size_level0_px: int,
    slide_id: str,
    path: Path,
    attributes: Mapping[str, object],
) -> None:
    dataset = file.create_dataset("coords", data=coords)
    ours = {
        "patch_size": attributes.get("patch_size", size_level0_px),
        "patch_size_level0": size_level0_px,
        "overlap": attributes.get("overlap", 0),
        "name": slide_id,
        "savetodir": path.parent.name,
    }
    _put(dataset, {**dict.fromkeys(_COORDS_ATTRIBUTES, None), **attributes, **ours})


def _put_instances_attributes(
    dataset: h5py.Dataset, path: Path, slide_id: str, attributes: Mapping[str, object]
) -> None:
    _put(dataset, {"name": slide_id, "savetodir": path.parent.name})
    if dataset.name == "/features":
        _put(dataset, {"encoder": attributes.get("encoder", "None")})


def _put(dataset: h5py.Dataset, attributes: Mapping[str, object]) -> None:
    for key, value in attributes.items():
        dataset.attrs[key] = "None" if value is None else value


def _check_instances(instances: np.ndarray, *, slide_id: str) -> None:
    shape, dtype = instances.shape, instances.dtype
    is_pixels = dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
    is_features = dtype in (np.float16, np.float32) and len(shape) == 2 and shape[1] > 0
    if not (is_pixels or is_features):
        raise BagError(
            f"slide {slide_id}: instances are {dtype} {shape}; expected uint8 (n, height, width, 3), or "
            "float16 or float32 (n, dim); cut or encode it again"
        )
    broken = 0 if is_pixels else int(np.sum(~np.isfinite(instances).all(axis=1)))
    if broken:
        raise BagError(
            f"slide {slide_id}: {broken} of {len(instances)} instances hold NaN or infinite features; "
            "expected finite numbers; encode it again, in float32 if it was float16"
        )


def _listing(file: h5py.File) -> str:
    return ", ".join(sorted(file)) or "nothing"
