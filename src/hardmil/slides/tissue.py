"""Tissue segmentation: what absorbs light, or Otsu on HSV channels, without dust, pen and blurred areas."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from hardmil.config.patches import PatchConfig, TissueConfig
from hardmil.errors import SlideError, TableError
from hardmil.files.geojson import Region
from hardmil.geometry import Downsample
from hardmil.slides.artefacts import is_out_of_focus, is_pen
from hardmil.slides.outlines import inside
from hardmil.slides.pieces import large_pieces
from hardmil.slides.resolution import study_resolution
from hardmil.slides.slide import Slide, read_strips

TissueRule = Literal["absorption", "s-or-v", "s-and-v", "s", "v"]

MAX_EDGE_PX = 2048
"""Slides up to this edge are segmented at level 0; larger ones of unknown mpp on a thumbnail of this edge."""

MAX_LIGHT = 0.90
"""Tissue lets less of the light of the glass through in its most absorbed colour, which is green for most
stains. The palest eosin lets 0.88 through, glass with dust or uneven light 0.92 (benchmarks/tissue.py)."""
BLACK = 30
"""Pixels of a lower value (of 255) are not part of the scan: what scanners and converters write where nothing
was scanned."""
GLASS_SHARE = 0.01
"""The light of the glass is the value that this share of the pixels reach; more than this is glass, or a
lumen, on nearly every slide."""
MIN_GLASS = 200
"""Smallest value that is taken for the light of the glass."""

MIN_CONTRAST = 10.0
"""Minimum difference (of 255) between the means of Otsu's two classes. Otsu always finds two classes: on an
empty slide they split scanner noise, with means 3 to 6 apart. The palest eosin differs from glass by 20 in
saturation."""

PART_ROWS = 256
"""Rows of a thumbnail that are converted to HSV at once."""

ANY = "*"
"""Used as a name, it means every annotated area, including those without a class."""


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Which pixels are tissue; one pixel covers `downsample` level-0 px along x and y.

    The thresholds are in OpenCV's 8-bit units: hue 0 to 179, saturation and value 0 to 255. The threshold of
    hue is reported but not used: hue is circular and undefined on grey.
    """

    is_tissue: Bool[np.ndarray, "row column"]
    downsample: Downsample
    otsu_hue: float
    otsu_saturation: float
    otsu_value: float


DEFAULT_PATCHES = PatchConfig()


def segment_tissue(
    slide: Slide,
    config: PatchConfig = DEFAULT_PATCHES,
    *,
    mpp: float | None = None,
    regions: Sequence[Region] | None = None,
) -> TissueMask:
    """The tissue of a slide, without what `config.tissue` excludes.

    Slides with both edges up to 2048 px are segmented at level 0, larger ones on a thumbnail.

    Args:
        slide: An open slide.
        config: Which channels must agree, and what counts as tissue.
        mpp: Micrometres per level-0 px from the table of slides; None: see `study_resolution`.
        regions: The annotations of the slide; None if there are none.

    Raises:
        SlideError: If the slide cannot be read, or lacks a resolution or annotations that a setting needs.
    """
    settings, mpp = config.tissue, study_resolution(slide.scale, table=mpp, config=config).mpp
    edge_px = _thumbnail_edge_px(slide, um_per_px=settings.um_per_px, mpp=mpp)
    downsample = max(1.0, max(slide.width_px, slide.height_px) / edge_px)
    strips, pen = read_strips(slide, max_edge_px=edge_px), None
    if settings.drop_pen and mpp is not None:
        # Whether ink is a stroke depends on its whole area, so the thumbnail is read at once.
        rgb = slide.thumbnail(edge_px)
        strips, pen = [rgb], is_pen(rgb, um_per_px=mpp * downsample)
    mask = segment_strips(strips, rule=config.tissue_rule, downsample=downsample, pen=pen)
    is_tissue = mask.is_tissue
    factors = Downsample.between((slide.width_px, slide.height_px), (is_tissue.shape[1], is_tissue.shape[0]))
    if mpp is not None:
        is_tissue = _without_dust(is_tissue, settings=settings, um_per_px=mpp * downsample)
    if settings.drop_blurred:
        is_tissue &= ~is_out_of_focus(slide, is_tissue, downsample=factors, mpp=mpp)
    is_tissue = _as_annotated(is_tissue, regions, settings=settings, downsample=factors, slide=slide)
    return replace(mask, is_tissue=is_tissue, downsample=factors)


def segment_strips(
    strips: Iterable[UInt8[np.ndarray, "_ column 3"]],
    *,
    rule: TissueRule,
    downsample: float,
    pen: Bool[np.ndarray, "height width"] | None = None,
) -> TissueMask:
    """The tissue of an image: pixels that absorb light, or are separated from the rest by Otsu's threshold.

    With Otsu, a channel without contrast marks no pixels, so a blank slide has no tissue. Pixels with pen do
    not enter the thresholds: ink is so strongly coloured that Otsu would separate it from all else.

    Args:
        strips: RGB of the image from top to bottom. Two channels of each are kept until all have been seen.
        rule: Absorption, or which of the channels must agree.
        downsample: Level-0 px per px of the image.
        pen: Which pixels of the image are pen.

    Source of the rules with Otsu: Li et al. 2019 ("transfer RGB to HSV, Otsu on each channel"). The paper
    does not say which of the channels must agree; "s-or-v" is our choice. Otsu splits an image that is nearly
    all tissue inside the tissue; absorption does not (docs/tissue.md).
    """
    counts, kept = _colours(strips, pen=pen)
    otsu_hue, otsu_saturation, otsu_value = map(_otsu_of, counts)
    # Without contrast, a threshold that no pixel passes.
    min_saturation = otsu_saturation if _has_contrast(counts[1], otsu_saturation) else 255.0
    max_value = otsu_value if _has_contrast(counts[2], otsu_value) else -1.0
    if rule == "absorption":
        glass = _light_of_glass(counts[2])
        found = [_absorbs(part, glass=glass) for part in kept]
    else:
        found = [
            _is_stained(part, rule=rule, min_saturation=min_saturation, max_value=max_value) for part in kept
        ]
    is_tissue = np.concatenate(found)
    if pen is not None:
        is_tissue &= ~pen
    factors = Downsample(downsample, downsample)
    return TissueMask(is_tissue, factors, otsu_hue, otsu_saturation, otsu_value)


def _colours(
    strips: Iterable[UInt8[np.ndarray, "_ column 3"]], *, pen: Bool[np.ndarray, "height width"] | None
) -> tuple[Int64[np.ndarray, "3 256"], list[UInt8[np.ndarray, "_ column 2"]]]:
    """Histograms of hue, saturation and value outside pen; and saturation and value of each part."""
    import cv2

    counts = np.zeros((3, 256), np.int64)
    kept: list[UInt8[np.ndarray, "_ column 2"]] = []
    top = 0
    for part in (
        part for strip in strips for part in np.split(strip, range(PART_ROWS, len(strip), PART_ROWS))
    ):
        hsv = cv2.cvtColor(part, cv2.COLOR_RGB2HSV)
        seen = None if pen is None else (~pen[top : top + len(part)]).view(np.uint8)
        for channel in range(3):
            found = cv2.calcHist([hsv], [channel], seen, [256], [0, 256])
            counts[channel] += np.asarray(found, np.int64).ravel()
        kept.append(hsv[..., 1:].copy())
        top += len(part)
    return counts, kept


def _light_of_glass(counts: Int64[np.ndarray, " value"]) -> int:
    """The value of glass, from the histogram of values outside what is not part of the scan."""
    from_brightest = np.cumsum(counts[BLACK:][::-1])
    n_brighter = np.searchsorted(from_brightest, GLASS_SHARE * from_brightest[-1])
    return max(MIN_GLASS, 255 - int(n_brighter))


def _absorbs(part: UInt8[np.ndarray, "row column 2"], *, glass: int) -> Bool[np.ndarray, "row column"]:
    """Which pixels absorb light: their darkest channel, from saturation and value, is below that of glass."""
    saturation, value = part[..., 0].astype(np.uint16), part[..., 1]
    darkest = value * (255 - saturation)
    return (darkest < round(MAX_LIGHT * glass * 255)) & (value >= BLACK)


def _is_stained(
    part: UInt8[np.ndarray, "row column 2"],
    *,
    rule: Literal["s-or-v", "s-and-v", "s", "v"],
    min_saturation: float,
    max_value: float,
) -> Bool[np.ndarray, "row column"]:
    """Which pixels have a saturation above `min_saturation`, a value not above `max_value`, or both."""
    is_coloured, is_dark = part[..., 0] > min_saturation, part[..., 1] <= max_value
    match rule:
        case "s-or-v":
            return is_coloured | is_dark
        case "s-and-v":
            return is_coloured & is_dark
        case "s":
            return is_coloured
        case "v":
            return is_dark


def otsu(channel: UInt8[np.ndarray, "height width"]) -> float:
    """The value that splits a channel into two classes with the least variance; it is in the lower class.

    Source: Otsu 1979, as in OpenCV.
    """
    import cv2

    threshold, _ = cv2.threshold(channel, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(threshold)


def _otsu_of(counts: Int64[np.ndarray, " value"]) -> float:
    """Otsu's threshold of a channel with this histogram; 0 if the histogram is empty."""
    if not counts.any():
        return 0.0
    return otsu(np.repeat(np.arange(256, dtype=np.uint8), counts)[:, None])


def _thumbnail_edge_px(slide: Slide, *, um_per_px: float, mpp: float | None) -> int:
    longer_px = max(slide.width_px, slide.height_px)
    if mpp is None or longer_px <= MAX_EDGE_PX:
        return MAX_EDGE_PX
    return math.ceil(min(longer_px, longer_px * mpp / um_per_px))


def _has_contrast(counts: Int64[np.ndarray, " value"], threshold: float) -> bool:
    value = np.arange(256)
    is_high = value > threshold
    n_high, n_low = counts[is_high].sum(), counts[~is_high].sum()
    if n_high == 0 or n_low == 0:
        return False
    sums = counts * value
    return bool(sums[is_high].sum() / n_high - sums[~is_high].sum() / n_low >= MIN_CONTRAST)


def _without_dust(
    is_tissue: Bool[np.ndarray, "row column"], *, settings: TissueConfig, um_per_px: float
) -> Bool[np.ndarray, "row column"]:
    """The mask with small holes filled, then small pieces removed; a gap at the border is not a hole."""
    is_glass = large_pieces(~is_tissue, min_px=settings.max_hole_um2 / um_per_px**2, border=True)
    return large_pieces(~is_glass, min_px=settings.min_area_um2 / um_per_px**2)


def _as_annotated(
    is_tissue: Bool[np.ndarray, "row column"],
    regions: Sequence[Region] | None,
    *,
    settings: TissueConfig,
    downsample: Downsample,
    slide: Slide,
) -> Bool[np.ndarray, "row column"]:
    if not settings.keep and not settings.drop:
        return is_tissue
    if settings.keep and regions is None:
        raise SlideError(
            f"{slide.path}: has no annotations, but patches.tissue.keep asks for {', '.join(settings.keep)}; "
            "give its GeoJSON in the annotations column of the table, or clear the setting"
        )
    shape = is_tissue.shape
    kept, dropped = (
        [region for region in regions or () if region.name in names or ANY in names]
        for names in (settings.keep, settings.drop)
    )
    _check_on_slide([*kept, *dropped], slide=slide)
    try:
        if settings.keep:
            is_tissue = is_tissue & inside(kept, shape=shape, downsample=downsample)
        return is_tissue & ~inside(dropped, shape=shape, downsample=downsample)
    except TableError as error:
        raise SlideError(f"{slide.path}: its annotations are too many to draw: {error}") from error


def _check_on_slide(regions: Sequence[Region], *, slide: Slide) -> None:
    """Raise SlideError if an area is wholly outside the slide: it was drawn on another."""
    for region in regions:
        (left, top), (right, bottom) = region.polygon.min(axis=0), region.polygon.max(axis=0)
        if left >= slide.width_px or top >= slide.height_px or right <= 0 or bottom <= 0:
            raise SlideError(
                f'{slide.path}: an annotation "{region.name}" is outside the slide, at x {left:g} to '
                f"{right:g}, y {top:g} to {bottom:g}; expected level-0 px of its {slide.width_px} x "
                f"{slide.height_px} px; it was drawn on another slide, or in another unit: export it again"
            )
