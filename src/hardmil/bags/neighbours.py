"""Which patches of a bag are adjacent on their slide."""

import numpy as np
from jaxtyping import Int, Int64

REACH = 1.5
"""How far apart adjacent patches are, as a multiple of the distance of nearest patches. 1.5 is between the
diagonal neighbour on a grid and the one after the next, in the larger of the distances in x and y."""


def neighbour_pairs(
    coords: Int64[np.ndarray, "patch 2"], *, size_level0_px: int, slides: Int[np.ndarray, " patch"] | None
) -> Int64[np.ndarray, "2 pair"]:
    """Pairs of a patch and an adjacent one, by their positions in the bag; each pair in both directions.

    On a grid, patches have up to eight neighbours, also if they overlap. The distance of two patches is the
    larger of those in x and in y; adjacent ones are at most 1.5 times as far apart as the nearest patches of
    the slide are in the median, and never more than 1.5 times their edge. Copies of a patch, which hard bags
    may contain, are not neighbours of each other; only the first of them is a neighbour of other patches.

    Args:
        coords: Top-left corners in level-0 px.
        size_level0_px: Edge of a patch; 0: the coordinates are unknown, and there are no pairs.
        slides: A number for the slide of each patch; None: all are from one. Patches of different slides are
            never adjacent.
    """
    if size_level0_px == 0:
        return np.empty((2, 0), dtype=np.int64)
    if slides is None:
        return _pairs_of_slide(coords, size_level0_px=size_level0_px)
    rows = [np.flatnonzero(slides == slide) for slide in np.unique(slides)]
    return np.concatenate(
        [some[_pairs_of_slide(coords[some], size_level0_px=size_level0_px)] for some in rows], axis=1
    )


def _pairs_of_slide(
    coords: Int64[np.ndarray, "patch 2"], *, size_level0_px: int
) -> Int64[np.ndarray, "2 pair"]:
    from scipy.spatial import KDTree

    # One number for each place: numpy finds different numbers much faster than different rows.
    x, y = (coords - coords.min(axis=0)).T
    _, first, place, n_copies = np.unique(
        x * (y.max() + 1) + y, return_index=True, return_inverse=True, return_counts=True
    )
    if len(first) < 2:
        return np.empty((2, 0), dtype=np.int64)
    places = coords[first]
    tree = KDTree(places)
    nearest = tree.query(places, k=2, p=np.inf)[0][:, 1]
    reach = REACH * min(float(np.median(nearest)), size_level0_px)
    one_way = tree.query_pairs(reach, p=np.inf, output_type="ndarray").T
    target, source = np.concatenate([one_way, one_way[::-1]], axis=1)
    # Every copy of the target gets the pair.
    by_place, begin = np.argsort(place, kind="stable"), np.cumsum(n_copies) - n_copies
    n = n_copies[target]
    number = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    return np.stack([by_place[np.repeat(begin[target], n) + number], np.repeat(first[source], n)])
