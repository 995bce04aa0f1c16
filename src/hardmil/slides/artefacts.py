"""What lies on a slide and is no tissue to learn from: pen marks, areas out of focus."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, UInt8

from hardmil.errors import SlideError
from hardmil.geometry import best_level
from hardmil.slides.pieces import large_pieces
from hardmil.slides.slide import Slide

# Hue (OpenCV: 0 to 179) and least saturation (of 255) of ink. Measured at 8 um/px on the CMU-1 region and the
# UCSB and colon images: green holds at most 0.02% of their pixels. Blue ink shares its hue with haematoxylin
# and is more saturated: 0.3% of UCSB's, the bluest of the three, in specks far smaller than a stroke.
GREEN = (35, 95, 50)
BLUE = (95, 125, 150)
BLACK_VALUE, BLACK_SATURATION = 100, 80
"""Black ink is darker and greyer than this; at 8 um/px a dense lymphocytic infiltrate is neither."""
PEN_UM = 8.0
"""Resolution that ink is looked for at: coarser than a nucleus, finer than a stroke."""
MIN_STROKE_UM2 = 40_000.0
"""A pen mark is larger, than a square of 200 um; a pen draws half a millimetre and more."""
PEN_EDGE_UM = 40.0
"""How far a stroke's faint rim reaches."""

FOCUS_UM_PER_PX = 1.0
FOCUS_CELL_UM = 64
MIN_SHARPNESS = 0.08
"""Least share of a cell's variance that lies in its Laplacian. Measured at 1 um/px on 64-um cells of the
CMU-1 region, six UCSB images and a made-up slide: 99% of cells of the sharp images have more; blurred by a
Gaussian of 2 um, 99% have less."""
MIN_VARIANCE = 60.0
"""Below this variance of grey (of 255, squared) a cell holds nothing to be sharp: it is not judged."""
BLOCK_CELLS = 24
"""Cells a read: 1,536 um each way."""


def is_pen(
    rgb: UInt8[np.ndarray, "row column 3"], *, um_per_px: float | None
) -> Bool[np.ndarray, "row column"]:
    """Which pixels of a thumbnail are green, blue or black ink, with the rim of each stroke.

    Without a resolution the thumbnail is looked at as it is, and single pixels count.
    """
    import cv2

    finer = 1.0 if um_per_px is None else max(1.0, PEN_UM / um_per_px)
    height, width = rgb.shape[:2]
    coarse = (max(1, round(width / finer)), max(1, round(height / finer)))
    hue, saturation, value = cv2.split(
        cv2.cvtColor(cv2.resize(rgb, coarse, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV)
    )
    is_ink = (value < BLACK_VALUE) & (saturation < BLACK_SATURATION)
    for low, high, least in (GREEN, BLUE):
        is_ink |= (hue >= low) & (hue < high) & (saturation > least)
    if um_per_px is not None:
        is_ink = _strokes(is_ink, um_per_px=um_per_px * finer)
    return cv2.resize(is_ink.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).view(bool)


def _strokes(is_ink: Bool[np.ndarray, "row column"], *, um_per_px: float) -> Bool[np.ndarray, "row column"]:
    """Ink in pieces as large as a stroke, grown by the width of its rim."""
    import cv2

    reach = max(1, round(PEN_EDGE_UM / um_per_px))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    is_stroke = large_pieces(is_ink, min_px=MIN_STROKE_UM2 / um_per_px**2)
    return cv2.dilate(is_stroke.view(np.uint8), kernel).view(bool)


def is_out_of_focus(
    slide: Slide, is_tissue: Bool[np.ndarray, "row column"], *, downsample: float, mpp: float | None
) -> Bool[np.ndarray, "row column"]:
    """Which pixels of a mask lie in a 64-um cell of tissue that is blurred by about 2 um or more.

    Sharpness is the variance of the Laplacian over that of grey, so it does not depend on how dark a stain
    is. A cell without contrast is not judged. Only blocks that hold tissue are read.

    Raises:
        SlideError: If the resolution is not known, or coarser than 1.5 um/px, where focus cannot be seen.
    """
    if mpp is None or mpp > 1.5 * FOCUS_UM_PER_PX:
        found = "is not known" if mpp is None else f"is {mpp:.3g} um/px"
        raise SlideError(
            f"{slide.path}: its resolution {found}, and patches.tissue.drop_blurred needs 1.5 um/px or finer "
            "to see focus; give mpp in the table of slides, or turn the knob off"
        )
    is_blurred = np.zeros(is_tissue.shape, dtype=bool)
    cell_px = FOCUS_CELL_UM / mpp / downsample
    for x, y, edge in _blocks(is_tissue, edge=cell_px * BLOCK_CELLS):
        sharpness = _sharpness(_grey_block(slide, x * downsample, y * downsample, mpp=mpp))
        rows, columns = np.indices((edge, edge)) / cell_px
        last = BLOCK_CELLS - 1
        cells = sharpness[np.minimum(rows.astype(int), last), np.minimum(columns.astype(int), last)]
        part = is_blurred[y : y + edge, x : x + edge]
        part |= (cells < MIN_SHARPNESS)[: part.shape[0], : part.shape[1]]
    return is_blurred


def _blocks(is_tissue: Bool[np.ndarray, "row column"], *, edge: float) -> Iterator[tuple[int, int, int]]:
    """x, y and edge, in px of the mask, of squares that tile it and hold tissue."""
    step = max(1, round(edge))
    for y in range(0, is_tissue.shape[0], step):
        for x in range(0, is_tissue.shape[1], step):
            if is_tissue[y : y + step, x : x + step].any():
                yield x, y, step


def _grey_block(slide: Slide, x: float, y: float, *, mpp: float) -> Float[np.ndarray, "height width"]:
    """Grey of a block from (x, y), level-0 px, at 1 um/px."""
    import cv2

    edge_um = BLOCK_CELLS * FOCUS_CELL_UM
    index = best_level([level.downsample for level in slide.levels], wanted=FOCUS_UM_PER_PX / mpp)
    size = max(1, round(edge_um / mpp / slide.levels[index].downsample))
    rgb = slide.read(round(x), round(y), size, size, index)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edge_px = round(edge_um / FOCUS_UM_PER_PX)
    return cv2.resize(grey, (edge_px, edge_px), interpolation=cv2.INTER_AREA)


def _sharpness(grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "row column"]:
    """Variance of the Laplacian over that of grey, cell by cell; infinite where there is no contrast."""
    import cv2

    def variances(values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "row column"]:
        n, size = BLOCK_CELLS, values.shape[0] // BLOCK_CELLS
        return values.reshape(n, size, n, size).var(axis=(1, 3))

    contrast = variances(grey)
    laplacian = variances(cv2.Laplacian(grey, cv2.CV_32F, ksize=1))
    return np.where(contrast < MIN_VARIANCE, np.inf, laplacian / np.maximum(contrast, 1e-6))
