"""Where the patches of a slide are, and their pixels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int64, UInt8

from hardmil.config import PatchConfig
from hardmil.errors import ConfigError, SlideError
from hardmil.geometry import best_level, first_known, grid_starts, interpolate_rows, reflect, size_level0_px
from hardmil.slides.reader import SlideReader
from hardmil.slides.tissue import TissueMask, segment_tissue

BLOCK_PX = 2048
"""Edge of what is read at once, in px of the level: a few of a file's tiles, and 17 MB whatever the slide."""


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """Square patches of one slide, row by row from the top.

    `coords` are (x, y) of the top-left corner in level-0 px; a patch covers `size_level0_px` of those and is
    `size_px` pixels when read. `tissue_share` is the part of each patch that is tissue, 0 to 1.
    """

    coords: Int64[np.ndarray, "patch 2"]
    size_px: int
    size_level0_px: int
    tissue_share: Float[np.ndarray, " patch"]

    def __len__(self) -> int:
        return len(self.coords)


def place_patches(
    slide: SlideReader,
    config: PatchConfig,
    *,
    mpp: float | None = None,
    tissue: TissueMask | None = None,
) -> PatchGrid:
    """The patches of a slide that hold enough tissue: squares in rows, the rest dropped.

    Args:
        slide: An open slide.
        config: Size, resolution and tissue rule; `mode` must be grid.
        mpp: Micrometres per level-0 px from the table of slides; the file's own where None.
        tissue: Of this slide, where it was segmented before.

    Raises:
        SlideError: If a resolution is wanted and nobody knows the slide's, or the slide cannot be read.
        ConfigError: If `config.mode` is not grid.
    """
    if config.mode != "grid":
        raise ConfigError(
            f"{slide.path}: patches.mode is {config.mode}, but a slide has no annotated nuclei; use grid"
        )
    size = patch_size_level0_px(slide, config, mpp=mpp)
    step = max(1, round(size * (config.size_px - config.overlap_px) / config.size_px))
    x_starts = grid_starts(slide.width_px, size_px=size, step_px=step)
    y_starts = grid_starts(slide.height_px, size_px=size, step_px=step)
    tissue = tissue or segment_tissue(slide, config, mpp=mpp)
    share = _tissue_shares(tissue, x_starts=x_starts, y_starts=y_starts, size_px=size)
    row, column = np.nonzero(share >= config.min_tissue)
    coords = np.stack([x_starts[column], y_starts[row]], axis=1)
    return PatchGrid(coords, config.size_px, size, share[row, column])


def patch_size_level0_px(slide: SlideReader, config: PatchConfig, *, mpp: float | None = None) -> int:
    """Edge of a patch in level-0 px of this slide.

    Args:
        slide: An open slide.
        config: Size and resolution.
        mpp: Micrometres per level-0 px from the table of slides; the file's own where None.

    Raises:
        SlideError: If a resolution is wanted and nobody knows the slide's.
    """
    mpp = first_known(mpp, slide.mpp)
    if config.um_per_px is not None and mpp is None:
        raise SlideError(
            f"{slide.path}: the file does not say its micrometres per pixel, which patches.um_per_px: "
            f"{config.um_per_px} needs; fill the mpp column in slides.csv, or set patches.um_per_px: null "
            "to cut level-0 pixels as they are"
        )
    return size_level0_px(config.size_px, um_per_px=config.um_per_px, mpp=mpp)


def _tissue_shares(
    tissue: TissueMask,
    *,
    x_starts: Int[np.ndarray, " column"],
    y_starts: Int[np.ndarray, " row"],
    size_px: int,
) -> Float[np.ndarray, "row column"]:
    """Part of each square of `size_px` (level-0 px) from these corners that is tissue, by an integral image.

    Corners may fall inside a pixel of the mask: the integral is linear there, so interpolating it is exact.
    """
    counts = np.pad(tissue.is_tissue.astype(np.float64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    in_rows = _between(counts, y_starts / tissue.downsample, size=size_px / tissue.downsample)
    inside = _between(
        np.ascontiguousarray(in_rows.T), x_starts / tissue.downsample, size=size_px / tissue.downsample
    ).T
    # Rounded, so that a patch of nothing but tissue has 1 and not a little less.
    return np.clip(np.round(inside / (size_px / tissue.downsample) ** 2, 9), 0, 1)


def _between(
    counts: Float[np.ndarray, "line other"], starts: Float[np.ndarray, " start"], *, size: float
) -> Float[np.ndarray, "start other"]:
    return interpolate_rows(counts, starts + size) - interpolate_rows(counts, starts)


def read_patches(slide: SlideReader, grid: PatchGrid) -> UInt8[np.ndarray, "patch size size 3"]:
    """RGB of the patches, in the order of `grid.coords`.

    Read in the order of the file, block by block, at the coarsest level that is fine enough, and averaged by
    area down to `size_px`.

    Raises:
        SlideError: If the slide is damaged at one of them.
    """
    index = best_level(
        [level.downsample for level in slide.levels], wanted=grid.size_level0_px / grid.size_px
    )
    downsample = slide.levels[index].downsample
    size = max(1, round(grid.size_level0_px / downsample))
    patches = np.empty((len(grid), grid.size_px, grid.size_px, 3), np.uint8)
    for members in _blocks(grid.coords, block_level0_px=max(1, BLOCK_PX // size) * grid.size_level0_px):
        origin = grid.coords[members].min(axis=0)
        corners = np.rint((grid.coords[members] - origin) / downsample).astype(np.int64)
        width, height = (int(edge) + size for edge in corners.max(axis=0))
        block = slide.read(int(origin[0]), int(origin[1]), width, height, index)
        for member, (x, y) in zip(members, corners, strict=True):
            patches[member] = _resize(block[y : y + size, x : x + size], size_px=grid.size_px)
    return patches


def _blocks(coords: Int64[np.ndarray, "patch 2"], *, block_level0_px: int) -> Iterator[np.ndarray]:
    """Indices of the patches whose corners share a block, block by block from the top."""
    if len(coords) == 0:
        return
    blocks = coords // block_level0_px
    order = np.lexsort((blocks[:, 0], blocks[:, 1]))
    changes = np.flatnonzero(np.any(np.diff(blocks[order], axis=0) != 0, axis=1)) + 1
    yield from np.split(order, changes)


def _resize(rgb: UInt8[np.ndarray, "height width 3"], *, size_px: int) -> UInt8[np.ndarray, "size size 3"]:
    import cv2

    if rgb.shape[0] == size_px:
        return rgb
    return cv2.resize(rgb, (size_px, size_px), interpolation=cv2.INTER_AREA)


def resize_patches(
    patches: UInt8[np.ndarray, "patch size size 3"], *, size_px: int | None
) -> UInt8[np.ndarray, "patch resized resized 3"]:
    """The patches with this edge, averaged by area or enlarged by cubic splines; as they are where None."""
    import cv2

    if size_px is None or patches.shape[1] == size_px:
        return patches
    how = cv2.INTER_AREA if size_px < patches.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(one, (size_px, size_px), interpolation=how) for one in patches])


def cut_patches(
    rgb: UInt8[np.ndarray, "height width 3"], coords: Int[np.ndarray, "patch 2"], *, size_px: int
) -> UInt8[np.ndarray, "patch {size_px} {size_px} 3"]:
    """Squares of an image with top-left corners `coords` (x, y); outside the image, it is mirrored."""
    steps = np.arange(size_px)
    columns = reflect(coords[:, :1] + steps, length=rgb.shape[1])
    rows = reflect(coords[:, 1:] + steps, length=rgb.shape[0])
    return rgb[rows[:, :, None], columns[:, None, :]]
