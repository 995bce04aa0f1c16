"""Reading the pixels of patches."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from jaxtyping import Int, Int64, UInt8
from numpy.lib.stride_tricks import as_strided

from hardmil.geometry import reflect
from hardmil.slides.grid import PatchGrid
from hardmil.slides.icc import to_srgb
from hardmil.slides.slide import Slide
from hardmil.slides.windows import Cells, Window

COLUMN_PX = 8192
"""Width of the column that is read from top to bottom before the next, in px of the level. On a slide that is
not wider, each tile is decoded once; on a wider one, tiles on the border of two columns (one in thirty) are
decoded twice."""

BAND_PX = 1024
"""Height of the part of a column that is in memory, in addition to one patch: 40 MB for any slide."""

BLOCK_BYTES = 16 << 20
"""Size of one block of patches."""


def reading_level(slide: Slide, grid: PatchGrid) -> tuple[int, int]:
    """The level at which patches are read, the coarsest that is fine enough; and a patch's edge in its px."""
    wanted = grid.size_level0_px / grid.size_px
    index = slide.level_for(wanted)
    # Along x and y, a patch differs by less than one px of the level.
    factor = sum(slide.levels[index].downsample) / 2
    return index, max(1, round(grid.size_level0_px / factor))


def read_patches(
    slide: Slide, grid: PatchGrid, *, icc: bool = False, threads: int = 1
) -> UInt8[np.ndarray, "patch size size 3"]:
    """RGB of all patches, in the order of `grid.coords`; see `read_blocks`.

    Raises:
        SlideError: If the slide is damaged at a patch, or its colour profile cannot be applied.
    """
    patches = np.empty((len(grid), grid.size_px, grid.size_px, 3), np.uint8)
    for members, block in read_blocks(slide, grid, icc=icc, threads=threads):
        patches[members] = block
    return patches


def read_blocks(
    slide: Slide, grid: PatchGrid, *, icc: bool = False, threads: int = 1
) -> Iterator[tuple[Int64[np.ndarray, " member"], UInt8[np.ndarray, "member size size 3"]]]:
    """Blocks of patches in the order of the file: indices into `grid.coords`, and the RGB of those patches.

    Each tile of the file is decoded once, however many patches touch it; other tiles are not read. Memory
    does not grow with the slide. Patches are read at `reading_level` and averaged by area.

    Args:
        slide: An open slide.
        grid: The patches to read.
        icc: Whether to apply the colour profile in the file.
        threads: How many threads read and decode; the decoders release Python's global lock.

    Raises:
        SlideError: If the slide is damaged at a patch, or its colour profile cannot be applied.
    """
    if len(grid) == 0:
        return
    convert = to_srgb(slide) if icc else None
    index, size = reading_level(slide, grid)
    cells = Cells.of(slide, level=index)
    corners = np.rint(grid.coords / np.array(cells.downsample)).astype(np.int64)
    n_rows = max(1, BAND_PX // cells.height_px)
    with ThreadPoolExecutor(threads) as pool:
        each = map if threads == 1 else pool.map
        for column in _groups(corners[:, 0] // (max(1, COLUMN_PX // cells.width_px) * cells.width_px)):
            # The window is made in the call, so that only one is in memory.
            open_window = partial(
                Window, slide, cells=cells, corners=corners[column], size_px=size, n_rows=n_rows, each=each
            )
            for some, patches in _read_column(
                open_window, corners[column], height_px=n_rows * cells.height_px
            ):
                resized = _resize(patches, size_px=grid.size_px)
                yield column[some], resized if convert is None else convert(resized)


def _read_column(
    open_window: Callable[[], Window], corners: Int64[np.ndarray, "patch 2"], *, height_px: int
) -> Iterator[tuple[Int64[np.ndarray, " member"], UInt8[np.ndarray, "member size size 3"]]]:
    """The patches of a column, band by band from the top, in blocks of at most `BLOCK_BYTES`."""
    window = open_window()
    n_per_block = max(1, BLOCK_BYTES // (3 * window.size_px**2))
    for band in _groups(corners[:, 1] // height_px):
        pixels, origin = window.show(corners[band])
        for start in range(0, len(band), n_per_block):
            some = band[start : start + n_per_block]
            yield some, _squares(pixels, corners[some] - origin, size_px=window.size_px)


def _groups(keys: Int64[np.ndarray, " item"]) -> Iterator[Int64[np.ndarray, " member"]]:
    """Indices of the items with the same key, for each key in ascending order."""
    order = np.argsort(keys, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)


def _squares(
    rgb: UInt8[np.ndarray, "height width 3"], corners: Int64[np.ndarray, "patch 2"], *, size_px: int
) -> UInt8[np.ndarray, "patch {size_px} {size_px} 3"]:
    """A copy of each square with these top-left corners (x, y); all squares must be inside the image."""
    height, width = (edge - size_px + 1 for edge in rgb.shape[:2])
    all_squares = as_strided(rgb, (height, width, size_px, size_px, 3), rgb.strides[:2] + rgb.strides)
    return all_squares[corners[:, 1], corners[:, 0]]


def _resize(
    patches: UInt8[np.ndarray, "patch read read 3"], *, size_px: int
) -> UInt8[np.ndarray, "patch size size 3"]:
    """The patches with this edge, averaged by area; enlarged only if the slide is coarser than asked for."""
    import cv2

    if patches.shape[1] == size_px:
        return patches
    return np.stack([cv2.resize(one, (size_px, size_px), interpolation=cv2.INTER_AREA) for one in patches])


def resize_patches(
    patches: UInt8[np.ndarray, "patch size size 3"], *, size_px: int | None
) -> UInt8[np.ndarray, "patch resized resized 3"]:
    """The patches with this edge, averaged by area or enlarged by cubic splines; unchanged if it is None."""
    import cv2

    if size_px is None or patches.shape[1] == size_px:
        return patches
    how = cv2.INTER_AREA if size_px < patches.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(one, (size_px, size_px), interpolation=how) for one in patches])


def crop_patches(
    rgb: UInt8[np.ndarray, "height width 3"], coords: Int[np.ndarray, "patch 2"], *, size_px: int
) -> UInt8[np.ndarray, "patch {size_px} {size_px} 3"]:
    """Squares of an image with top-left corners `coords` (x, y); the image is mirrored at its borders."""
    steps = np.arange(size_px)
    columns = reflect(coords[:, :1] + steps, length=rgb.shape[1])
    rows = reflect(coords[:, 1:] + steps, length=rgb.shape[0])
    return rgb[rows[:, :, None], columns[:, None, :]]
