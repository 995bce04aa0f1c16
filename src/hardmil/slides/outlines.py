"""Conversion of a mask to polygons in level-0 px, and back."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64

from hardmil.errors import TableError
from hardmil.files.geojson import Region
from hardmil.geometry import Downsample

Edges = tuple[Float[np.ndarray, "edge 2"], Float[np.ndarray, "edge 2"], Int64[np.ndarray, " edge"]]
"""Start and end of each edge, and the number of its region."""

MAX_CROSSINGS = 200_000_000
"""How often all outlines of a slide may cross the rows of a mask: about 20 seconds of work."""
MAX_CROSSINGS_OF_ONE = 10_000_000
"""The same for one outline, whose crossings are in memory together: about 1 GB."""
BATCH = 2_000_000
"""How many crossings are sorted at a time."""


def outlines(is_inside: Bool[np.ndarray, "row column"], *, downsample: Downsample, name: str) -> list[Region]:
    """The connected pieces of a mask as polygons with holes, in level-0 px, largest first.

    A polygon runs a quarter of a pixel inside the border of its pixels, so that `inside` restores the mask.
    Pixels that touch at a corner belong to the same piece.
    """
    import cv2

    # At twice the size, an outline runs around a pixel and not through its centre.
    twice = (2 * is_inside.shape[1], 2 * is_inside.shape[0])
    enlarged = cv2.resize(is_inside.view(np.uint8), twice, interpolation=cv2.INTER_NEAREST)
    rings, tree = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents: list[int] = [] if tree is None else np.asarray(tree)[0, :, 3].tolist()
    factors = np.array(downsample) / 2
    polygons = [(np.asarray(ring)[:, 0].astype(np.float64) + 0.5) * factors for ring in rings]
    holes: dict[int, list[np.ndarray]] = {}
    for polygon, parent in zip(polygons, parents, strict=True):
        holes.setdefault(parent, []).append(polygon)
    pieces = [i for i, parent in enumerate(parents) if parent < 0]
    pieces.sort(key=lambda i: cv2.contourArea(rings[i]), reverse=True)
    return [Region(polygons[i], name, holes=tuple(holes.get(i, ()))) for i in pieces]


def inside(
    regions: Sequence[Region], *, shape: tuple[int, int], downsample: Downsample
) -> Bool[np.ndarray, "row column"]:
    """Which pixels of a mask have their centre in one of the regions, outside its holes.

    Raises:
        TableError: If the outlines cross the rows of the mask more often than `MAX_CROSSINGS` allows.
    """
    n_rows, n_columns = shape
    begins_less_ends = np.zeros(n_rows * (n_columns + 1), np.int32)
    for starts, ends, owner in _batches(_edges(regions, factors=np.array(downsample)), n_rows=n_rows):
        runs = _runs(starts, ends, owner, n_rows=n_rows, n_columns=n_columns)
        begins_less_ends += np.bincount(runs[:, 0], minlength=begins_less_ends.size)
        begins_less_ends -= np.bincount(runs[:, 1], minlength=begins_less_ends.size)
    depth = np.cumsum(begins_less_ends.reshape(n_rows, n_columns + 1)[:, :-1], axis=1, dtype=np.int32)
    return depth > 0


def _edges(regions: Sequence[Region], *, factors: np.ndarray) -> Edges:
    """The edges of all rings, in px of the mask with pixel centres at integers, region by region."""
    rings = [(i, ring) for i, region in enumerate(regions) for ring in (region.polygon, *region.holes)]
    if not rings:
        return np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64)
    n = np.array([len(ring) for _, ring in rings])
    starts = np.concatenate([ring for _, ring in rings]) / factors - 0.5
    following = np.arange(len(starts)) + 1
    following[np.cumsum(n) - 1] = np.cumsum(n) - n
    return starts, starts[following], np.repeat([i for i, _ in rings], n)


def _batches(edges: Edges, *, n_rows: int) -> Iterator[Edges]:
    """The edges of whole regions, with about `BATCH` crossings at a time."""
    starts, ends, owner = edges
    first, end = _rows(starts, ends, n_rows=n_rows)
    crossings = np.bincount(owner, weights=end - first)
    for found, most, what in (
        (crossings.max(initial=0), MAX_CROSSINGS_OF_ONE, "one outline crosses"),
        (crossings.sum(), MAX_CROSSINGS, f"{len(crossings):,} outlines cross"),
    ):
        if found > most:
            raise TableError(
                f"{what} the rows of the thumbnail {found:,.0f} times; expected at most {most:,}; simplify "
                "the outlines, or export fewer"
            )
    batch = (np.cumsum(crossings) // BATCH)[owner]
    cuts = np.flatnonzero(np.diff(batch)) + 1
    yield from zip(*(np.split(array, cuts) for array in edges), strict=True)


def _rows(
    starts: Float[np.ndarray, "edge 2"], ends: Float[np.ndarray, "edge 2"], *, n_rows: int
) -> tuple[Int64[np.ndarray, " edge"], Int64[np.ndarray, " edge"]]:
    """The rows whose centres each edge crosses: the first, and the one after the last."""
    top, bottom = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first, end = (np.clip(np.ceil(edge), 0, n_rows).astype(np.int64) for edge in (top, bottom))
    return first, end


def _runs(
    starts: Float[np.ndarray, "edge 2"],
    ends: Float[np.ndarray, "edge 2"],
    owner: Int64[np.ndarray, " edge"],
    *,
    n_rows: int,
    n_columns: int,
) -> Int64[np.ndarray, "run 2"]:
    """Where runs of pixels inside a region begin and end, as positions in rows of `n_columns` + 1.

    By the even-odd rule: along a row, each crossed edge of a region switches sides.
    """
    first, end = _rows(starts, ends, n_rows=n_rows)
    n = end - first
    which = np.repeat(np.arange(len(n)), n)
    row = first[which] + np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    (x0, y0), (x1, y1) = starts.T, ends.T
    x = x0[which] + (row - y0[which]) * (x1 - x0)[which] / (y1 - y0)[which]
    position = row * (n_columns + 1) + np.clip(np.ceil(x), 0, n_columns).astype(np.int64)
    size = n_rows * (n_columns + 1)
    return np.sort((owner - owner[:1])[which] * size + position).reshape(-1, 2) % size
