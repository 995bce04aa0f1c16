"""A window that slides down a level, so that each tile of the file is read once and memory is constant."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from hardmil.geometry import Downsample
from hardmil.slides.slide import Slide

MIN_CELL_PX = 128
"""Several smaller tiles or strips are read at once."""

RUN_PX = 1 << 18
"""Pixels that one thread reads at a time: a few cells, to reduce the overhead of the thread pool."""


@dataclass(frozen=True)
class Cells:
    """A level divided into cells, which are whole tiles of the file. Edges in px of the level."""

    level: int
    downsample: Downsample
    width_px: int
    height_px: int

    @classmethod
    def of(cls, slide: Slide, *, level: int) -> "Cells":
        """The cells of a level."""
        found = slide.levels[level]
        width, height = (edge * max(1, -(-MIN_CELL_PX // edge)) for edge in found.tile_px)
        return cls(level, found.downsample, width, height)


class Window:
    """The rows of cells of one column of a level that are in memory; the window only moves down.

    Args:
        slide: An open slide.
        cells: The cells of the level.
        corners: Top-left corners of all patches of the column, px of the level; other areas are not read.
        size_px: Edge of a patch, px of the level.
        n_rows: Number of rows of cells in which patches that are shown together may start.
        each: `map`, or the `map` of a pool of threads.
    """

    def __init__(
        self,
        slide: Slide,
        *,
        cells: Cells,
        corners: Int64[np.ndarray, "patch 2"],
        size_px: int,
        n_rows: int,
        each: Callable[..., Iterable[None]],
    ) -> None:
        edge = np.array([cells.width_px, cells.height_px])
        self._first = corners.min(axis=0) // edge
        self._needed = _covered(corners // edge - self._first, (corners + size_px - 1) // edge - self._first)
        n_rows += -(-(size_px - 1) // cells.height_px)
        shape = (n_rows * cells.height_px, self._needed.shape[1] * cells.width_px, 3)
        self._pixels = np.empty(shape, np.uint8)
        self._slide, self._cells, self.size_px, self._each = slide, cells, size_px, each
        self._top = self._bottom = 0

    def show(
        self, corners: Int64[np.ndarray, "patch 2"]
    ) -> tuple[UInt8[np.ndarray, "height width 3"], Int64[np.ndarray, "2"]]:
        """Pixels that contain these patches, and the x, y of their top-left corner in px of the level.

        The pixels change with the next call, and are undefined outside the patches.

        Raises:
            SlideError: If the slide is damaged there.
        """
        height = self._cells.height_px
        top = int(corners[:, 1].min()) // height - int(self._first[1])
        bottom = (int(corners[:, 1].max()) + self.size_px - 1) // height - int(self._first[1]) + 1
        kept = max(0, self._bottom - top)
        if kept:
            start = (top - self._top) * height
            self._pixels[: kept * height] = self._pixels[start : start + kept * height]
        self._top, self._bottom = top, max(bottom, top + kept)
        # The list raises the errors of the reads here.
        list(self._each(self._fill, self._runs(top + kept, bottom)))
        x, y = int(self._first[0]) * self._cells.width_px, (int(self._first[1]) + top) * height
        return self._pixels, np.array([x, y])

    def _runs(self, top: int, bottom: int) -> list[tuple[int, int, int]]:
        """Row and columns (from, to) of adjacent cells that are needed, split into runs for one thread."""
        n_per_run = max(1, RUN_PX // (self._cells.width_px * self._cells.height_px))
        runs: list[tuple[int, int, int]] = []
        for row in range(top, min(bottom, len(self._needed))):
            changes = np.flatnonzero(np.diff(np.pad(self._needed[row].astype(np.int8), 1)))
            for start, stop in changes.reshape(-1, 2).tolist():
                runs += [(row, left, min(left + n_per_run, stop)) for left in range(start, stop, n_per_run)]
        return runs

    def _fill(self, run: tuple[int, int, int]) -> None:
        """Read a run cell by cell, so that a source that decodes tiles can return the tile without a copy."""
        row, start, stop = run
        width, height = self._cells.width_px, self._cells.height_px
        level, downsample = self._cells.level, self._cells.downsample
        y, top = (int(self._first[1]) + row) * height, (row - self._top) * height
        for column in range(start, stop):
            x, left = (int(self._first[0]) + column) * width, column * width
            # Rounded to level-0 px; the source divides and rounds again, which gives x and y.
            self._pixels[top : top + height, left : left + width] = self._slide.read(
                round(x * downsample.x), round(y * downsample.y), width, height, level
            )


def _covered(
    first: Int64[np.ndarray, "patch 2"], last: Int64[np.ndarray, "patch 2"]
) -> Bool[np.ndarray, "row column"]:
    """Which cells are in one of the rectangles from `first` to `last` (x, y), both included."""
    width, height = (int(edge) + 2 for edge in last.max(axis=0))
    steps = np.zeros((height, width), np.int64)
    for rows, columns, sign in (
        (first[:, 1], first[:, 0], 1),
        (first[:, 1], last[:, 0] + 1, -1),
        (last[:, 1] + 1, first[:, 0], -1),
        (last[:, 1] + 1, last[:, 0] + 1, 1),
    ):
        np.add.at(steps, (rows, columns), sign)
    return steps.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0
