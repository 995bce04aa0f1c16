"""Where the tissue is: Otsu's threshold on the channels of HSV."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8

from hardmil.slides.reader import SlideReader

TissueRule = Literal["s-or-v", "s-and-v", "s", "v"]

MAX_EDGE_PX = 2048
"""Slides up to this edge are segmented pixel by pixel, larger ones on a thumbnail of it."""

MIN_CONTRAST = 10.0
"""Least distance (of 255) between the means of Otsu's two classes. Otsu always finds two: on a white slide
it parts scanner noise, whose classes lie 3 to 6 apart. The palest eosin lies 20 from glass in saturation."""


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


def segment_tissue(slide: SlideReader, *, rule: TissueRule = "s-or-v") -> TissueMask:
    """The tissue of a slide, in level-0 pixels where both edges are at most 2048 px, else on a thumbnail.

    Raises:
        SlideError: If the slide cannot be read.
    """
    rgb = slide.thumbnail(MAX_EDGE_PX)
    downsample = max(1.0, max(slide.width_px, slide.height_px) / MAX_EDGE_PX)
    return segment_rgb(rgb, rule=rule, downsample=downsample)


def segment_rgb(
    rgb: UInt8[np.ndarray, "height width 3"], *, rule: TissueRule = "s-or-v", downsample: float = 1.0
) -> TissueMask:
    """The tissue of an image: pixels of saturation above, or (and) of value not above, the image's Otsu.

    A channel without contrast marks nothing, so a blank slide has no tissue.

    Source: Li et al. 2019 ("transfer RGB to HSV, Otsu on each channel"); which of the channels must agree is
    open there, "s-or-v" is ours (docs: METHOD).
    """
    import cv2

    hue, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))
    otsu_hue, otsu_saturation, otsu_value = (otsu(channel) for channel in (hue, saturation, value))
    is_coloured = _has_contrast(saturation, otsu_saturation) & (saturation > otsu_saturation)
    is_dark = _has_contrast(value, otsu_value) & (value <= otsu_value)
    match rule:
        case "s-or-v":
            is_tissue = is_coloured | is_dark
        case "s-and-v":
            is_tissue = is_coloured & is_dark
        case "s":
            is_tissue = is_coloured
        case "v":
            is_tissue = is_dark
    return TissueMask(is_tissue, downsample, otsu_hue, otsu_saturation, otsu_value)


def otsu(channel: UInt8[np.ndarray, "height width"]) -> float:
    """The value that parts a channel into two classes of least variance; the lower class includes it.

    Source: Otsu 1979, as in OpenCV.
    """
    import cv2

    threshold, _ = cv2.threshold(channel, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(threshold)


def _has_contrast(channel: UInt8[np.ndarray, "height width"], threshold: float) -> bool:
    is_high = channel > threshold
    n_high = np.count_nonzero(is_high)
    if n_high in (0, channel.size):
        return False
    return bool(channel[is_high].mean() - channel[~is_high].mean() >= MIN_CONTRAST)
