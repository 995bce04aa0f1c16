"""Conversion of a mask to polygons in level-0 px, and back."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from hardmil.files.geojson import Region
from hardmil.geometry import Downsample


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
    """Which pixels of a mask have their centre in one of the regions, outside its holes."""
    is_inside, factors = np.zeros(shape, dtype=bool), np.array(downsample)
    for region in regions:
        # In px of the mask, with pixel centres at integers.
        rings = [ring / factors - 0.5 for ring in (region.polygon, *region.holes)]
        top, bottom = (
            np.clip(np.ceil([rings[0][:, 1].min(), rings[0][:, 1].max()]), 0, shape[0]).astype(int).tolist()
        )
        if top < bottom:
            part = is_inside[top:bottom]
            part |= _filled([ring - (0, top) for ring in rings], n_rows=bottom - top, n_columns=shape[1])
    return is_inside


def _filled(
    rings: Sequence[Float[np.ndarray, "_ 2"]], *, n_rows: int, n_columns: int
) -> Bool[np.ndarray, "row column"]:
    """The pixels inside the rings by the even-odd rule: along a row, each crossed edge switches sides."""
    crossings = np.zeros((n_rows, n_columns + 1), np.uint8)
    for ring in rings:
        (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
        first, end = (
            np.clip(np.ceil(edge(y0, y1)), 0, n_rows).astype(int) for edge in (np.minimum, np.maximum)
        )
        n = end - first
        which = np.repeat(np.arange(len(ring)), n)
        row = first[which] + np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        x = x0[which] + (row - y0[which]) * (x1 - x0)[which] / (y1 - y0)[which]
        np.add.at(crossings, (row, np.clip(np.ceil(x), 0, n_columns).astype(int)), 1)
    return np.cumsum(crossings[:, :-1], axis=1, dtype=np.uint8) % 2 == 1
