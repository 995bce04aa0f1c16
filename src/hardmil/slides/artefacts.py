"""Artefacts that are not tissue to learn from: pen marks and areas out of focus."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, UInt8

from hardmil.errors import SlideError
from hardmil.geometry import Downsample
from hardmil.slides.pieces import large_pieces
from hardmil.slides.slide import Slide

# Range of hue (OpenCV: 0 to 179) and minimum saturation (of 255) of ink. Measured at 8 um/px on the CMU-1
# region and the UCSB and colon images: at most 0.02% of their pixels are in the green range. Blue ink has the
# hue of haematoxylin and is more saturated: 0.3% of the pixels of UCSB, the bluest of the three sets, are in
# its range, in specks far smaller than a stroke.
GREEN = (35, 95, 50)
BLUE = (95, 125, 150)
RED = (172, 8, 180)
"""Red ink is more saturated than eosin and blood, which reach 173 in the CMU-1 region; its hue passes through
0."""
BLACK_VALUE, BLACK_SATURATION = 100, 80
"""Black ink is darker and less saturated than this; at 8 um/px dense lymphocytic infiltrates are neither."""
PEN_UM = 8.0
"""Resolution at which ink is detected: coarser than a nucleus, finer than a stroke."""
MIN_STROKE_UM2 = 40_000.0
"""Minimum area of a pen mark, a square of 200 um; pen strokes are half a millimetre wide or more."""
PEN_EDGE_UM = 40.0
"""Width of the faint rim of a stroke."""

FOCUS_UM_PER_PX = 1.0
FOCUS_CELL_UM = 64
MIN_SHARPNESS = 0.08
"""Minimum ratio of the variance of a cell's Laplacian to that of its grey values. Measured at 1 um/px on
64-um cells of the CMU-1 region, six UCSB images and a synthetic slide: 99% of the cells of the sharp images
have more; after a Gaussian blur of 2 um, 99% have less."""
MIN_VARIANCE = 60.0
"""Cells with a lower variance of grey (of 255, squared) have too little contrast to be judged."""
BLOCK_CELLS = 24
"""Cells along each side of a block that is read at once: 1,536 um."""


def is_pen(rgb: UInt8[np.ndarray, "row column 3"], *, um_per_px: float) -> Bool[np.ndarray, "row column"]:
    """Which pixels of a thumbnail are green, blue, red or black ink, including the rim of each stroke."""
    import cv2

    reduction = max(1.0, PEN_UM / um_per_px)
    height, width = rgb.shape[:2]
    coarse = (max(1, round(width / reduction)), max(1, round(height / reduction)))
    hue, saturation, value = cv2.split(
        cv2.cvtColor(cv2.resize(rgb, coarse, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV)
    )
    is_ink = (value < BLACK_VALUE) & (saturation < BLACK_SATURATION)
    is_ink |= ((hue >= RED[0]) | (hue < RED[1])) & (saturation > RED[2])
    for low, high, min_saturation in (GREEN, BLUE):
        is_ink |= (hue >= low) & (hue < high) & (saturation > min_saturation)
    is_ink = _strokes(is_ink, um_per_px=um_per_px * reduction)
    return cv2.resize(is_ink.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).view(bool)


def _strokes(is_ink: Bool[np.ndarray, "row column"], *, um_per_px: float) -> Bool[np.ndarray, "row column"]:
    """The pieces of ink that are as large as a stroke, dilated by the width of the rim."""
    import cv2

    reach = max(1, round(PEN_EDGE_UM / um_per_px))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    is_stroke = large_pieces(is_ink, min_px=MIN_STROKE_UM2 / um_per_px**2)
    return cv2.dilate(is_stroke.view(np.uint8), kernel).view(bool)


def is_out_of_focus(
    slide: Slide, is_tissue: Bool[np.ndarray, "row column"], *, downsample: Downsample, mpp: float | None
) -> Bool[np.ndarray, "row column"]:
    """Which pixels of a mask are in a 64-um cell of tissue that is blurred by about 2 um or more.

    Sharpness is the variance of the Laplacian divided by that of grey, so it does not depend on how dark the
    stain is. A cell without contrast is not judged. Only blocks with tissue are read.

    Raises:
        SlideError: If the resolution is unknown, or too coarse to judge focus (above 1.5 um/px).
    """
    if mpp is None or mpp > 1.5 * FOCUS_UM_PER_PX:
        found = "is unknown" if mpp is None else f"is {mpp:.3g} um/px"
        raise SlideError(
            f"{slide.path}: its resolution {found}, but patches.tissue.drop_blurred needs 1.5 um/px or "
            "finer; give mpp in the table of slides, or turn the setting off"
        )
    is_blurred = np.zeros(is_tissue.shape, dtype=bool)
    # A cell of 64 um differs by less than a px of the mask along x and y.
    cell_px = FOCUS_CELL_UM / mpp / (sum(downsample) / 2)
    for x, y, edge in _blocks(is_tissue, edge=cell_px * BLOCK_CELLS):
        sharpness = _sharpness(_grey_block(slide, x * downsample.x, y * downsample.y, mpp=mpp))
        rows, columns = np.indices((edge, edge)) / cell_px
        last = BLOCK_CELLS - 1
        cells = sharpness[np.minimum(rows.astype(int), last), np.minimum(columns.astype(int), last)]
        part = is_blurred[y : y + edge, x : x + edge]
        part |= (cells < MIN_SHARPNESS)[: part.shape[0], : part.shape[1]]
    return is_blurred


def _blocks(is_tissue: Bool[np.ndarray, "row column"], *, edge: float) -> Iterator[tuple[int, int, int]]:
    """x, y and edge, in px of the mask, of the squares of a grid that contain tissue."""
    step = max(1, round(edge))
    for y in range(0, is_tissue.shape[0], step):
        for x in range(0, is_tissue.shape[1], step):
            if is_tissue[y : y + step, x : x + step].any():
                yield x, y, step


def _grey_block(slide: Slide, x: float, y: float, *, mpp: float) -> Float[np.ndarray, "height width"]:
    """Grey values of the block at (x, y), level-0 px, at 1 um/px."""
    import cv2

    edge_um = BLOCK_CELLS * FOCUS_CELL_UM
    index = slide.level_for(FOCUS_UM_PER_PX / mpp)
    width, height = (max(1, round(edge_um / mpp / factor)) for factor in slide.levels[index].downsample)
    rgb = slide.read(round(x), round(y), width, height, index)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edge_px = round(edge_um / FOCUS_UM_PER_PX)
    return cv2.resize(grey, (edge_px, edge_px), interpolation=cv2.INTER_AREA)


def _sharpness(grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "row column"]:
    """Variance of the Laplacian divided by that of grey, for each cell; infinite without contrast."""
    import cv2

    def variances(values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "row column"]:
        n, size = BLOCK_CELLS, values.shape[0] // BLOCK_CELLS
        return values.reshape(n, size, n, size).var(axis=(1, 3))

    contrast = variances(grey)
    laplacian = variances(cv2.Laplacian(grey, cv2.CV_32F, ksize=1))
    return np.where(contrast < MIN_VARIANCE, np.inf, laplacian / np.maximum(contrast, 1e-6))
