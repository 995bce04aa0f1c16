"""Polygons on a slide as GeoJSON files of QuPath.

A file is a FeatureCollection of polygons in level-0 px, x to the right and y down, as QuPath imports and
exports them. Rings are closed in the file and open in memory.

In the file, coordinates start at the `origin`: the top-left corner of the scanned area of a slide, where the
slide states one (SCN, MRXS), because QuPath shows that area alone. In memory, and in HDF5, they start at the
corner of level 0, as in OpenSlide, TRIDENT and CLAM.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from hardmil.budget import GEOJSON_BYTES, SHOWN_CHARS, read_text
from hardmil.errors import TableError
from hardmil.files.atomic import write_atomically
from hardmil.files.slide_stem import slide_stem

ObjectType = Literal["annotation", "tile"]

MAX_OBJECTS = 200_000
"""Most objects of a file: more are cells, and no areas that somebody drew."""
SLIDE_CORNER = (0, 0)
"""The origin of a file of a slide without a stated scanned area, level-0 px."""


@dataclass(frozen=True, eq=False)
class Region:
    """A named polygon with measurements.

    `polygon` is (x, y) in level-0 px, its first point not repeated; `holes` have the same form and are not
    part of the region.
    """

    polygon: Float[np.ndarray, "point 2"]
    name: str
    measurements: dict[str, float] = field(default_factory=dict)
    holes: tuple[Float[np.ndarray, "_ 2"], ...] = ()


def square(x: float | int, y: float | int, size: float | int) -> Float[np.ndarray, "4 2"]:
    """The outline of a patch with top-left corner (x, y), clockwise as seen on the slide."""
    return np.array([[x, y], [x + size, y], [x + size, y + size], [x, y + size]], dtype=np.float64)


def write_regions(
    path: Path,
    regions: Iterable[Region],
    *,
    object_type: ObjectType = "annotation",
    origin: tuple[int, int] = SLIDE_CORNER,
) -> None:
    """Write polygons as a file that QuPath opens.

    Args:
        path: The file.
        regions: The polygons, in level-0 px.
        object_type: `tile` for many objects that nobody edits.
        origin: The point of the slide at which the coordinates of the file start, level-0 px.

    Raises:
        TableError: If a measurement is not finite, which JSON cannot store.
        StoreError: If the file cannot be written.
    """
    features = ", ".join(_feature(path, region, object_type=object_type, origin=origin) for region in regions)
    with write_atomically(path) as draft:
        draft.write_text(f'{{"type": "FeatureCollection", "features": [{features}]}}', encoding="utf-8")


def _feature(path: Path, region: Region, *, object_type: ObjectType, origin: tuple[int, int]) -> str:
    """A region as JSON text, made ring by ring: as lists, the 100,000 points of an outline take 15 MB."""
    for name, value in region.measurements.items():
        if not math.isfinite(value):
            raise TableError(
                f"{path}: measurement {name!r} of {region.name!r} is {value}; expected a finite number; "
                "leave it out"
            )
    outlines = (ring - np.array(origin) for ring in (region.polygon, *region.holes))
    closed = (np.concatenate([ring, ring[:1]]).tolist() for ring in outlines)
    rings = ", ".join(map(json.dumps, closed))
    properties = {
        "objectType": object_type,
        "isLocked": False,
        "measurements": {name: float(value) for name, value in region.measurements.items()},
        "classification": {"name": region.name},
    }
    return (
        f'{{"type": "Feature", "geometry": {{"type": "Polygon", "coordinates": [{rings}]}}, '
        f'"properties": {json.dumps(properties, ensure_ascii=False)}}}'
    )


def read_regions(path: Path, *, origin: tuple[int, int] = SLIDE_CORNER) -> list[Region]:
    """The areas of a GeoJSON file of hardmil or QuPath; each part of a multipolygon is a region.

    Objects without an area are left out: points, measured lines, and objects without a geometry.

    Args:
        path: The file.
        origin: The point of the slide at which the coordinates of the file start, level-0 px.

    Raises:
        TableError: If the file is missing, is not GeoJSON, or has a class that is drawn as a line.
    """
    try:
        features = _features(json.loads(read_text(path, most=GEOJSON_BYTES, encoding="utf-8-sig")))
        if len(features) > MAX_OBJECTS:
            raise ValueError(f"found {len(features):,} objects, more than {MAX_OBJECTS:,}")
        return [region for feature in features for region in _regions(feature, origin=origin)]
    except OSError as error:
        raise TableError(
            f"{path}: cannot be read ({error.strerror}); check the path, or export fewer objects"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise TableError(
            f"{path}: is not GeoJSON with polygons ({str(error)[:SHOWN_CHARS]}); expected objects with an "
            "area, as QuPath exports them; correct it, or export it again"
        ) from error


def _features(content: Any) -> list[Any]:
    """The objects of a file: QuPath exports a collection, a list, or one object alone."""
    if isinstance(content, list):
        return content
    return [content] if content.get("type") == "Feature" else content["features"]


def path_next_to(slide: Path) -> Path:
    """The GeoJSON file next to a slide, under the same name; it may be missing."""
    return slide.with_name(f"{slide_stem(slide)}.geojson")


def regions_next_to(slide: Path, *, origin: tuple[int, int] = SLIDE_CORNER) -> list[Region] | None:
    """The polygons of the GeoJSON file next to a slide, under the same name; None if it cannot be read.

    Args:
        slide: The file of the slide.
        origin: The point of the slide at which the coordinates of the file start, level-0 px.
    """
    path = path_next_to(slide)
    try:
        return read_regions(path, origin=origin) if path.exists() else None
    except TableError:
        return None


def _regions(feature: Any, *, origin: tuple[int, int]) -> list[Region]:
    properties = feature.get("properties") or {}
    name = _class_name(properties.get("classification") or {})
    measurements = _measurements(properties.get("measurements") or {})
    areas = _parts(feature["geometry"], name=name)
    parts = ([_open_ring(ring) + np.array(origin) for ring in area] for area in areas if area)
    return [Region(outline, name, measurements, tuple(holes)) for outline, *holes in parts]


def _class_name(classification: Any) -> str:
    """The class as QuPath shows it, "Artefact: Fold"; since version 0.4, it writes a list of the parts."""
    if isinstance(classification, str):
        return classification
    names = classification.get("names")
    return ": ".join(map(str, names)) if isinstance(names, list) else str(classification.get("name") or "")


def _parts(geometry: Any, *, name: str) -> list[Any]:
    """The polygons of a geometry; `name` is the class of the object."""
    match geometry["type"] if geometry else None:
        case "Polygon":
            return [geometry["coordinates"]]
        case "MultiPolygon":
            return list(geometry["coordinates"])
        case "GeometryCollection":
            return [part for one in geometry["geometries"] for part in _parts(one, name=name)]
        case "LineString" | "MultiLineString" if name:
            raise ValueError(f"found a line of class {name}, which has no area")
        case None | "Point" | "MultiPoint" | "LineString" | "MultiLineString":
            return []
        case kind:
            raise ValueError(f"found a {kind}")


def _open_ring(points: object) -> Float[np.ndarray, "point 2"]:
    """The corners of a ring. A third coordinate, the plane of a stack, is left out."""
    ring = np.asarray(points, dtype=np.float64)
    if ring.ndim != 2 or ring.shape[1] not in (2, 3) or len(ring) < 4 or (ring[0] != ring[-1]).any():
        raise ValueError("found a ring that is not closed or has fewer than three corners")
    if not (np.abs(ring) < 2**40).all():
        raise ValueError("found a corner that is not on any slide")
    return ring[:-1, :2]


def _measurements(found: object) -> dict[str, float]:
    """Measurements by name. QuPath before 0.4 wrote a list of names and values, later versions a mapping."""
    if isinstance(found, list):
        found = {item["name"]: item["value"] for item in found}
    if not isinstance(found, dict):
        raise TypeError(f"found measurements {found!r}")
    return {str(name): float(value) for name, value in found.items() if value is not None}
