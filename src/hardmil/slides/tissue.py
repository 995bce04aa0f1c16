"""Where the tissue is: Otsu's threshold on the channels of HSV, less what a lab does not call tissue."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8

from hardmil.config import PatchConfig, TissueConfig
from hardmil.errors import SlideError
from hardmil.geojson import Region
from hardmil.slides.artefacts import is_out_of_focus, is_pen
from hardmil.slides.outlines import inside
from hardmil.slides.reader import SlideReader
from hardmil.slides.resolution import find_resolution

TissueRule = Literal["s-or-v", "s-and-v", "s", "v"]

MAX_EDGE_PX = 2048
"""Slides up to this edge are segmented pixel by pixel, larger ones of unknown mpp on a thumbnail of it."""

MIN_CONTRAST = 10.0
"""Least distance (of 255) between the means of Otsu's two classes. Otsu always finds two: on a white slide
it parts scanner noise, whose classes lie 3 to 6 apart. The palest eosin lies 20 from glass in saturation."""


ANY = "*"
"""In the place of a name: every annotated area, those without a class too."""


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Which pixels are tissue; one pixel of it covers `downsample` level-0 px each way.

    The thresholds are in OpenCV's 8-bit units: hue 0 to 179, saturation and value 0 to 255. Hue's is reported
    and not used: hue is circular and undefined on grey.
    """

    is_tissue: Bool[np.ndarray, "row column"]
    downsample: float
    otsu_hue: float
    otsu_saturation: float
    otsu_value: float


USUAL = PatchConfig()


def segment_tissue(
    slide: SlideReader,
    config: PatchConfig = USUAL,
    *,
    mpp: float | None = None,
    regions: Sequence[Region] | None = None,
) -> TissueMask:
    """The tissue of a slide: by Otsu, without what `config.tissue` leaves out.

    Found in level-0 pixels where both edges are at most 2048 px, else on a thumbnail.

    Args:
        slide: An open slide.
        config: Which channels must agree, and the knobs of tissue.
        mpp: Micrometres per level-0 px from the table of slides; who comes next, `find_resolution` says.
        regions: What is annotated on the slide; None where nobody did.

    Raises:
        SlideError: If the slide cannot be read, or a knob needs a resolution or annotations that it lacks.
    """
    knobs, mpp = config.tissue, find_resolution(slide.scale, table=mpp, config=config).mpp
    edge_px = _thumbnail_edge_px(slide, um_per_px=knobs.um_per_px, mpp=mpp)
    rgb = slide.thumbnail(edge_px)
    downsample = max(1.0, max(slide.width_px, slide.height_px) / edge_px)
    pen = is_pen(rgb, um_per_px=None if mpp is None else mpp * downsample) if knobs.drop_pen else None
    mask = segment_rgb(rgb, rule=config.tissue_rule, downsample=downsample, pen=pen)
    is_tissue = mask.is_tissue
    if mpp is not None:
        is_tissue = _without_dust(is_tissue, knobs=knobs, um_per_px=mpp * downsample)
    if knobs.drop_blurred:
        is_tissue &= ~is_out_of_focus(slide, is_tissue, downsample=downsample, mpp=mpp)
    is_tissue = _as_annotated(is_tissue, regions, knobs=knobs, downsample=downsample, slide=slide)
    return replace(mask, is_tissue=is_tissue)


def segment_rgb(
    rgb: UInt8[np.ndarray, "height width 3"],
    *,
    rule: TissueRule = "s-or-v",
    downsample: float = 1.0,
    pen: Bool[np.ndarray, "height width"] | None = None,
) -> TissueMask:
    """The tissue of an image: pixels of saturation above, or (and) of value not above, the image's Otsu.

    A channel without contrast marks nothing, so a blank slide has no tissue. Where there is pen, the rest
    alone has a say: ink is so strong a colour that Otsu would part it from tissue and glass together.

    Source: Li et al. 2019 ("transfer RGB to HSV, Otsu on each channel"); which of the channels must agree is
    open there, "s-or-v" is ours (docs: METHOD).
    """
    import cv2

    hue, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))
    seen = [channel if pen is None else channel[~pen][:, None] for channel in (hue, saturation, value)]
    otsu_hue, otsu_saturation, otsu_value = (otsu(channel) if channel.size else 0.0 for channel in seen)
    is_coloured = _has_contrast(seen[1], otsu_saturation) & (saturation > otsu_saturation)
    is_dark = _has_contrast(seen[2], otsu_value) & (value <= otsu_value)
    match rule:
        case "s-or-v":
            is_tissue = is_coloured | is_dark
        case "s-and-v":
            is_tissue = is_coloured & is_dark
        case "s":
            is_tissue = is_coloured
        case "v":
            is_tissue = is_dark
    if pen is not None:
        is_tissue &= ~pen
    return TissueMask(is_tissue, downsample, otsu_hue, otsu_saturation, otsu_value)


def otsu(channel: UInt8[np.ndarray, "height width"]) -> float:
    """The value that parts a channel into two classes of least variance; the lower class includes it.

    Source: Otsu 1979, as in OpenCV.
    """
    import cv2

    threshold, _ = cv2.threshold(channel, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(threshold)


def _thumbnail_edge_px(slide: SlideReader, *, um_per_px: float, mpp: float | None) -> int:
    longer_px = max(slide.width_px, slide.height_px)
    if mpp is None or longer_px <= MAX_EDGE_PX:
        return MAX_EDGE_PX
    return math.ceil(min(longer_px, longer_px * mpp / um_per_px))


def _has_contrast(channel: UInt8[np.ndarray, "height width"], threshold: float) -> bool:
    is_high = channel > threshold
    n_high = np.count_nonzero(is_high)
    if n_high in (0, channel.size):
        return False
    return bool(channel[is_high].mean() - channel[~is_high].mean() >= MIN_CONTRAST)


def _without_dust(
    is_tissue: Bool[np.ndarray, "row column"], *, knobs: TissueConfig, um_per_px: float
) -> Bool[np.ndarray, "row column"]:
    """Holes up to a size filled, then pieces below one taken out; what touches the border is no hole."""
    is_hole = ~large_pieces(~is_tissue, min_px=knobs.max_hole_um2 / um_per_px**2, border=True) & ~is_tissue
    return large_pieces(is_tissue | is_hole, min_px=knobs.min_area_um2 / um_per_px**2)


def large_pieces(
    is_there: Bool[np.ndarray, "row column"], *, min_px: float, border: bool = False
) -> Bool[np.ndarray, "row column"]:
    """The connected pieces of more than `min_px` pixels; with `border` also those that reach the edge.

    Pieces touch by an edge of a pixel, or also by a corner where `border` is off: tissue that holds together
    by a corner parts the glass on both sides of it.
    """
    import cv2

    _, piece, stats, _ = cv2.connectedComponentsWithStats(
        is_there.astype(np.uint8), connectivity=4 if border else 8
    )
    is_kept = stats[:, cv2.CC_STAT_AREA] > min_px
    if border:
        left, top, width, height = stats[:, :4].T
        rows, columns = is_there.shape
        is_kept |= (left == 0) | (top == 0) | (left + width == columns) | (top + height == rows)
    is_kept[0] = False
    return is_kept[np.asarray(piece, np.int32)]


def _as_annotated(
    is_tissue: Bool[np.ndarray, "row column"],
    regions: Sequence[Region] | None,
    *,
    knobs: TissueConfig,
    downsample: float,
    slide: SlideReader,
) -> Bool[np.ndarray, "row column"]:
    if not knobs.keep and not knobs.drop:
        return is_tissue
    if knobs.keep and regions is None:
        raise SlideError(
            f"{slide.path}: has no annotations, but patches.tissue.keep asks for {', '.join(knobs.keep)}; "
            "fill the column annotations of the table with the slide's GeoJSON, or empty the knob"
        )
    shape, found = is_tissue.shape, regions or ()
    if knobs.keep:
        kept = [region for region in found if region.name in knobs.keep or ANY in knobs.keep]
        is_tissue = is_tissue & inside(kept, shape=shape, downsample=downsample)
    dropped = [region for region in found if region.name in knobs.drop or ANY in knobs.drop]
    return is_tissue & ~inside(dropped, shape=shape, downsample=downsample)
