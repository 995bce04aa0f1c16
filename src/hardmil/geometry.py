"""Conversions between level-0 pixels, pixels of other levels, and micrometres.

Level 0 is the slide's full resolution; positions are (x, y) from its top-left corner, x to the right.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from hardmil.errors import SlideError

SAME_SCALE = 1.01
"""Scales within this factor count as equal: scanners write 4.0003 for 4, and resampling by 1% only blurs."""


def size_level0_px(size_px: int, *, um_per_px: float | None, mpp: float | None) -> int:
    """Edge in level-0 px of a patch of `size_px` pixels at `um_per_px`; `size_px` itself if that is None.

    Args:
        size_px: Edge of the patch in the pixels that the network sees.
        um_per_px: Resolution of the patch.
        mpp: Resolution of level 0; needed unless `um_per_px` is None.

    Raises:
        SlideError: If `um_per_px` is given and `mpp` is unknown or far too coarse for it.
    """
    if um_per_px is None:
        return size_px
    if mpp is None:
        raise SlideError(f"patches at {um_per_px} um/px need the slide's micrometres per pixel (mpp)")
    size = round(size_px * um_per_px / mpp)
    if size < 1:
        raise SlideError(
            f"{size_px} px at {um_per_px} um/px are less than one pixel at {mpp} um/px; check the slide's mpp"
        )
    return size


def best_level(downsamples: Sequence[float], *, wanted: float) -> int:
    """Index of the coarsest level that is at least as fine as `wanted`; 0 if none is."""
    fine_enough = [level for level, downsample in enumerate(downsamples) if downsample <= wanted * SAME_SCALE]
    return max(fine_enough, key=lambda level: downsamples[level], default=0)


def grid_starts(extent_px: int, *, size_px: int, step_px: int) -> Int[np.ndarray, " start"]:
    """Positions 0, step, ... up to the last at which a patch of `size_px` fits; empty if none fits."""
    return np.arange(0, extent_px - size_px + 1, step_px, dtype=np.int64)


def interpolate_rows(
    table: Num[np.ndarray, "row column"], at: Float[np.ndarray, " line"]
) -> Float[np.ndarray, "line column"]:
    """Rows of a table, interpolated linearly at positions between rows; outside, the nearest row."""
    at = np.clip(at, 0, len(table) - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, len(table) - 1)
    share = (at - below)[:, None]
    return table[below] * (1 - share) + table[above] * share


def reflect(index: Int[np.ndarray, "*shape"], *, length: int) -> Int[np.ndarray, "*shape"]:
    """Indices into `length` items; those outside are mirrored at the ends (3 2 1 | 0 1 2 3 | 2 1 0)."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.mod(index, period)
    return np.minimum(folded, period - folded)
