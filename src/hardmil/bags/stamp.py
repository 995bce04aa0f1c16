"""STAMP's feature files: places in micrometres from version 2 on, in 256/224 of them before."""

from collections.abc import Mapping

import h5py
import numpy as np
from jaxtyping import Float

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import as_instances
from hardmil.bags.h5_fields import attributes_of, dataset_of
from hardmil.bags.provenance import UNKNOWN, Provenance
from hardmil.errors import FeatureFileError

# STAMP 1 cut tiles of 256 um and kept their places as pixels of 224 to a tile.
OLD_TILE_UM, OLD_TILE_PX = 256.0, 224


def is_stamp(file: h5py.File) -> bool:
    """Whether STAMP wrote this file."""
    return "feats" in file


def stamp_bag(file: h5py.File, *, slide_id: str, case_id: str, label: int, mpp: float | None) -> Bag:
    """The bag in a file of STAMP: `feats` and `coords`, the rest on the file.

    Without the slide's mpp its places are not known: coords 0 and a size of 0 say so. Tiles that STAMP 1
    augmented are left out.

    Args:
        file: The open file.
        slide_id: Of the slide.
        case_id: Of the slide.
        label: Of the bag.
        mpp: Micrometres per level-0 px.

    Raises:
        FeatureFileError: If it holds no tiles, or no place for each.
        EmptyBagError: If it holds no instance.
        BagError: If its instances are no finite features.

    Source: `preprocessing/__init__.py` and `modeling/data.py:get_coords` of STAMP 2.5, 2.1 and 2.0, and
    `preprocessing/helpers/feature_extractors.py` of 1.1.1, github.com/KatherLab/STAMP.
    """
    attributes = attributes_of(file)
    kind = attributes.get("feat_type", "tile")
    if kind != "tile":
        raise FeatureFileError(
            f"{file.filename}: holds features of a {kind}; expected those of tiles; give the folder that "
            "stamp preprocess wrote"
        )
    if "coords" not in file:
        raise FeatureFileError(f"{file.filename}: found feats without coords; expected both; write it again")
    features, places = as_instances(dataset_of(file, "feats")[()]), dataset_of(file, "coords")[()]
    if places.size == 0:
        places = np.zeros((0, 2))
    if places.ndim != 2 or places.shape[1] != 2 or places.dtype.kind not in "iuf":
        raise FeatureFileError(
            f"{file.filename}: coords are {places.dtype} {places.shape}; expected numbers (n, 2), x then y"
        )
    if "augmented" in file:
        kept = ~dataset_of(file, "augmented")[()].astype(bool)
        features, places = features[kept], places[kept]
    tile_um, um_per_unit = _units(attributes, places.astype(np.float64), name=file.filename)
    provenance = Provenance(_word(attributes.get("extractor")), _patch(attributes, tile_um))
    in_px = places.astype(np.float64) * um_per_unit / (mpp or np.inf)
    if not np.isfinite(in_px).all() or (np.abs(in_px) > 2**40).any():
        raise FeatureFileError(f"{file.filename}: coords hold NaN or no places; expected micrometres")
    coords = np.rint(in_px).astype(np.int64)
    size = round(tile_um / mpp) if mpp else 0
    return Bag(slide_id, case_id, label, features, coords, size_level0_px=size, provenance=provenance)


def _units(
    attributes: Mapping[str, object], places: Float[np.ndarray, "tile 2"], *, name: str
) -> tuple[float, float]:
    """Edge of a tile in um, and um of one unit of its coords."""
    by_version = attributes.get("tile_size_um", None)
    if by_version is None and attributes.get("unit") == "um":
        by_version = attributes.get("tile_size")
    if by_version is not None:
        if not isinstance(by_version, int | float) or not 0 < by_version < 1e6:
            raise FeatureFileError(f"{name}: its tile size is {by_version!r}; expected micrometres")
        return float(by_version), 1.0
    if "unit" not in attributes and _stride(places) in (None, OLD_TILE_PX):
        return OLD_TILE_UM, OLD_TILE_UM / OLD_TILE_PX
    raise FeatureFileError(
        f"{name}: does not say the unit of its coords; expected the attribute tile_size_um, or the steps of "
        f"{OLD_TILE_PX} of STAMP 1; run stamp preprocess again"
    )


def _stride(places: Float[np.ndarray, "tile 2"]) -> int | None:
    """The smallest step between two columns or rows of tiles, rounded; None where there is one of each."""
    steps = np.concatenate([np.diff(np.unique(places[:, axis])) for axis in (0, 1)])
    steps = steps[np.isfinite(steps)]
    return round(float(steps.min())) if len(steps) else None


def _patch(attributes: Mapping[str, object], tile_um: float) -> str:
    size = attributes.get("tile_size_px")
    return f"{tile_um:g} um" if size in UNKNOWN else f"{size} px of {tile_um:g} um"


def _word(value: object) -> str | None:
    return None if value in UNKNOWN else str(value)
