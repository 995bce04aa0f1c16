"""Conversions between level-0 pixels, pixels of other levels, and micrometres.

Level 0 is the slide's full resolution; positions are (x, y) from its top-left corner, x to the right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from hardmil.errors import SlideError

SAME_SCALE = 1.01
"""Scales within this factor count as equal: scanners write 4.0003 for 4, and resampling by 1% only blurs."""


class Downsample(NamedTuple):
    """Level-0 px per px of a level or a picture, along x and along y.

    The edges of levels and pictures are whole numbers, so the two differ: on a level of 951 x 20,000 px of a
    slide of 1,903 x 40,000 px, by 0.05%, which is 10 px at the bottom.
    """

    x: float
    y: float

    @classmethod
    def between(cls, whole: tuple[int, int], reduced: tuple[int, int]) -> "Downsample":
        """How much an area is reduced, from its width and height before and after."""
        return cls(whole[0] / reduced[0], whole[1] / reduced[1])


class Rectangle(NamedTuple):
    """An area of a slide: its top-left corner, width and height, in level-0 px."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Frame:
    """Where a picture is on a slide: its top-left corner in level-0 px, and how much it is reduced."""

    x: int
    y: int
    downsample: Downsample

    def to_px(self, points: Num[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Points (x, y) in level-0 px as points in px of the picture."""
        return (points - np.array([self.x, self.y])) / np.array(self.downsample)

    def squares_px(
        self, corners: Num[np.ndarray, "patch 2"], *, size_level0_px: int
    ) -> Int[np.ndarray, "patch 4"]:
        """Left, top, right and bottom of squares, in whole px of the picture; at least one px wide and high.

        Where a square is outside the picture to the left or the top, right or bottom is 0.

        Args:
            corners: (x, y) of the top-left corners, level-0 px.
            size_level0_px: Edge of a square, level-0 px.
        """
        first, last = (np.rint(self.to_px(corners + add)).astype(np.int64) for add in (0, size_level0_px))
        return np.maximum(np.hstack([first, np.maximum(last, first + 1)]), 0)


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


def grid_starts(
    extent_px: int, *, size_px: int, step_px: int, cover_end: bool = False
) -> Int[np.ndarray, " start"]:
    """Positions 0, step, ... up to the last at which a patch of `size_px` fits; empty if none fits.

    With `cover_end`, one more patch ends where the extent ends, if the last one ends before it.
    """
    starts = np.arange(0, extent_px - size_px + 1, step_px, dtype=np.int64)
    last = extent_px - size_px
    if cover_end and len(starts) and starts[-1] < last:
        return np.append(starts, last)
    return starts


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
