"""The grid of patches on the tissue of a slide."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int64, Num

from hardmil.config.patches import PatchConfig
from hardmil.errors import ConfigError, SlideError
from hardmil.geometry import SAME_SCALE, grid_starts, interpolate_rows, size_level0_px
from hardmil.slides.resolution import needed_mpp
from hardmil.slides.slide import Slide
from hardmil.slides.tissue import TissueMask, segment_tissue

MAX_PLACES = 20_000_000
"""Most places of the grid of a slide. Patches of 16 um on a large slide, 50 x 25 mm, have 5 million."""


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """Square patches of one slide, row by row from the top.

    `coords` are (x, y) of the top-left corners in level-0 px. The edge of a patch is `size_level0_px` on the
    slide and `size_px` pixels when read. `tissue_share` is the share of each patch that is tissue, 0 to 1.
    """

    coords: Int64[np.ndarray, "patch 2"]
    size_px: int
    size_level0_px: int
    tissue_share: Float[np.ndarray, " patch"]

    def __len__(self) -> int:
        return len(self.coords)


def place_patches(
    slide: Slide,
    config: PatchConfig,
    *,
    mpp: float | None = None,
    tissue: TissueMask | None = None,
) -> PatchGrid:
    """The patches of a regular grid on a slide that contain enough tissue.

    At the right and lower edge of the slide, what is left of the grid is dropped or covered: `config.edge`.

    Args:
        slide: An open slide.
        config: Size, resolution and tissue rule; `mode` must be grid.
        mpp: Micrometres per level-0 px from the table of slides; None: see `study_resolution`.
        tissue: The tissue of this slide, if it is segmented already.

    Raises:
        SlideError: If the config sets a resolution and that of the slide is unknown, not square, implausible,
            or too coarse; if there are more than MAX_PLACES places; or if the slide cannot be read.
        ConfigError: If `config.mode` is not grid.
    """
    if config.mode != "grid":
        raise ConfigError(
            f"{slide.path}: patches.mode is {config.mode}; expected grid, as a slide has no annotated nuclei"
        )
    size, x_starts, y_starts = _places(slide, config, mpp=mpp)
    tissue = tissue or segment_tissue(slide, config, mpp=mpp)
    share = _tissue_shares(tissue, x_starts=x_starts, y_starts=y_starts, size_px=size)
    row, column = np.nonzero(share >= config.min_tissue)
    coords = np.stack([x_starts[column], y_starts[row]], axis=1)
    return PatchGrid(coords, config.size_px, size, share[row, column])


def check_places(slide: Slide, config: PatchConfig, *, mpp: float | None = None) -> None:
    """Check resolution and number of places of a slide without reading any pixels.

    Args:
        slide: An open slide.
        config: Size and resolution.
        mpp: Micrometres per level-0 px from the table of slides; None: see `study_resolution`.

    Raises:
        SlideError: As `place_patches`.
    """
    _places(slide, config, mpp=mpp)


def _places(
    slide: Slide, config: PatchConfig, *, mpp: float | None
) -> tuple[int, Int64[np.ndarray, " column"], Int64[np.ndarray, " row"]]:
    """Edge of a patch, and where columns and rows of the grid start, in level-0 px."""
    size = patch_size_level0_px(slide, config, mpp=mpp)
    step = max(1, round(size * (config.size_px - config.overlap_px) / config.size_px))
    columns, rows = (
        grid_starts(extent, size_px=size, step_px=step, cover_end=config.edge == "shift")
        for extent in (slide.width_px, slide.height_px)
    )
    n_places = len(columns) * len(rows)
    if n_places > MAX_PLACES:
        raise SlideError(
            f"{slide.path}: {n_places:,} places for patches of {size} level-0 px on {slide.width_px} x "
            f"{slide.height_px} px; expected at most {MAX_PLACES:,}; check the mpp of the slide, "
            "patches.um_per_px, size_px and overlap_px"
        )
    return size, columns, rows


def patch_size_level0_px(slide: Slide, config: PatchConfig, *, mpp: float | None = None) -> int:
    """Edge of a patch in level-0 px of this slide.

    Args:
        slide: An open slide.
        config: Size and resolution.
        mpp: Micrometres per level-0 px from the table of slides; None: see `study_resolution`.

    Raises:
        SlideError: If the config sets a resolution and that of the slide is unknown, not square,
            implausible, or too coarse.
    """
    known = needed_mpp(slide.scale, path=slide.path, table=mpp, config=config)
    size = size_level0_px(config.size_px, um_per_px=config.um_per_px, mpp=known)
    if known is not None and config.um_per_px is not None:
        _check_enlargement(slide, config, um_per_px=config.um_per_px, mpp=known)
    return size


def _check_enlargement(slide: Slide, config: PatchConfig, *, um_per_px: float, mpp: float) -> None:
    enlargement = mpp / um_per_px
    if enlargement <= config.max_enlargement * SAME_SCALE:
        return
    raise SlideError(
        f"{slide.path}: has {mpp:g} um/px ({slide.width_px} x {slide.height_px} px), so patches at "
        f"{um_per_px:g} um/px would be enlarged {enlargement:.3g} times; expected at most "
        f"{config.max_enlargement:g}; check the mpp, use a finer scan, set patches.um_per_px to {mpp:g}, or "
        f"set patches.max_enlargement: {enlargement:.3g}"
    )


def _tissue_shares(
    tissue: TissueMask,
    *,
    x_starts: Int[np.ndarray, " column"],
    y_starts: Int[np.ndarray, " row"],
    size_px: int,
) -> Float[np.ndarray, "row column"]:
    """Share of tissue in each square of `size_px` (level-0 px) at these corners, by an integral image.

    A corner may be inside a pixel of the mask: the integral is linear there, so interpolation is exact.
    """
    import cv2

    counts = cv2.integral(tissue.is_tissue.view(np.uint8))
    per_x, per_y = tissue.downsample
    in_rows = _between(counts, y_starts / per_y, size=size_px / per_y)
    inside = _between(np.ascontiguousarray(in_rows.T), x_starts / per_x, size=size_px / per_x).T
    # Rounded, so that a patch entirely of tissue has exactly 1.
    return np.clip(np.round(inside / (size_px / per_x * (size_px / per_y)), 9), 0, 1)


def _between(
    counts: Num[np.ndarray, "line other"], starts: Float[np.ndarray, " start"], *, size: float
) -> Float[np.ndarray, "start other"]:
    return interpolate_rows(counts, starts + size) - interpolate_rows(counts, starts)
