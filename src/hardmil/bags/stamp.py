"""Feature files of STAMP, with coordinates in micrometres since version 2, before in units of 256/224 um."""

from collections.abc import Mapping

import h5py
import numpy as np
from jaxtyping import Float

from hardmil.bags.bag import Bag
from hardmil.bags.bag_file import as_instances
from hardmil.bags.h5_fields import attributes_of, values_of
from hardmil.bags.provenance import UNKNOWN, Provenance
from hardmil.errors import FeatureFileError

# STAMP 1 extracted tiles of 256 um and stored their coordinates in pixels, 224 per tile.
OLD_TILE_UM, OLD_TILE_PX = 256.0, 224


def is_stamp(file: h5py.File) -> bool:
    """Whether the file is from STAMP."""
    return "feats" in file


def stamp_bag(file: h5py.File, *, slide_id: str, case_id: str, label: int, mpp: float | None) -> Bag:
    """The bag in a file of STAMP: datasets `feats` and `coords`, and attributes of the file.

    Without the slide's mpp the coordinates are unknown: coords and size are 0. Augmented tiles of STAMP 1 are
    left out.

    Args:
        file: The open file.
        slide_id: Id of the slide.
        case_id: Case of the slide.
        label: Label of the bag.
        mpp: Micrometres per level-0 px; None if unknown.

    Raises:
        FeatureFileError: If it has no features of tiles, or no valid coordinates.
        EmptyBagError: If it has no instances.
        BagError: If its features are not finite.

    Source: `preprocessing/__init__.py` and `modeling/data.py:get_coords` of STAMP 2.5, 2.1 and 2.0, and
    `preprocessing/helpers/feature_extractors.py` of 1.1.1, github.com/KatherLab/STAMP.
    """
    attributes = attributes_of(file)
    kind = attributes.get("feat_type", "tile")
    if kind != "tile":
        raise FeatureFileError(
            f"{file.filename}: has features of a {kind}; expected features of tiles; give the folder that "
            "stamp preprocess wrote"
        )
    if "coords" not in file:
        raise FeatureFileError(f"{file.filename}: found feats without coords; expected both; write it again")
    features, stored = as_instances(values_of(file, "feats")), values_of(file, "coords")
    if stored.size == 0:
        stored = np.zeros((0, 2))
    if stored.ndim != 2 or stored.shape[1] != 2 or stored.dtype.kind not in "iuf":
        raise FeatureFileError(
            f"{file.filename}: coords are {stored.dtype} {stored.shape}; expected numbers (n, 2), x then "
            "y; write it again"
        )
    if "augmented" in file:
        kept = ~values_of(file, "augmented").astype(bool)
        features, stored = features[kept], stored[kept]
    tile_um, um_per_unit = _tile_units(attributes, stored.astype(np.float64), name=file.filename)
    provenance = Provenance(_known_text(attributes.get("extractor")), _patch(attributes, tile_um))
    in_px = stored.astype(np.float64) * um_per_unit / (mpp or np.inf)
    if not np.isfinite(in_px).all() or (np.abs(in_px) > 2**40).any():
        raise FeatureFileError(
            f"{file.filename}: coords are NaN or out of range; expected micrometres; write it again"
        )
    coords = np.rint(in_px).astype(np.int64)
    size = round(tile_um / mpp) if mpp else 0
    return Bag(slide_id, case_id, label, features, coords, size_level0_px=size, provenance=provenance)


def _tile_units(
    attributes: Mapping[str, object], stored: Float[np.ndarray, "tile 2"], *, name: str
) -> tuple[float, float]:
    """Edge of a tile in um, and um of one unit of its coordinates."""
    by_version = attributes.get("tile_size_um", None)
    if by_version is None and attributes.get("unit") == "um":
        by_version = attributes.get("tile_size")
    if by_version is not None:
        if not isinstance(by_version, int | float) or not 0 < by_version < 1e6:
            raise FeatureFileError(
                f"{name}: its tile size is {by_version!r}; expected micrometres; write it again"
            )
        return float(by_version), 1.0
    if "unit" not in attributes and _stride(stored) in (None, OLD_TILE_PX):
        return OLD_TILE_UM, OLD_TILE_UM / OLD_TILE_PX
    raise FeatureFileError(
        f"{name}: does not state the unit of its coords; expected the attribute tile_size_um, or steps of "
        f"{OLD_TILE_PX} as in STAMP 1; run stamp preprocess again"
    )


def _stride(stored: Float[np.ndarray, "tile 2"]) -> int | None:
    """The smallest step between two columns or rows of tiles, rounded; None if there is only one."""
    steps = np.concatenate([np.diff(np.unique(stored[:, axis])) for axis in (0, 1)])
    steps = steps[np.isfinite(steps)]
    return round(float(steps.min())) if len(steps) else None


def _patch(attributes: Mapping[str, object], tile_um: float) -> str:
    size = attributes.get("tile_size_px")
    return f"{tile_um:g} um" if size in UNKNOWN else f"{size} px of {tile_um:g} um"


def _known_text(value: object) -> str | None:
    return None if value in UNKNOWN else str(value)
