"""Histogram equalisation of patches."""

import numpy as np
from jaxtyping import Int64, UInt8

from hardmil.config.patches import IMAGE_WITH_ENCODER, Equalise
from hardmil.errors import ConfigError
from hardmil.slides.tissue import segment_strips

BLOCK_ROWS = 16_384
"""Rows of pixels that are counted at once."""


def equalise(
    patches: UInt8[np.ndarray, "patch height width 3"], *, mode: Equalise
) -> UInt8[np.ndarray, "patch height width 3"]:
    """A copy of the patches with equalised histograms.

    Equalisation commutes with flips and quarter turns, so it is done once, when bags are made.

    Args:
        patches: For `image`, all patches of one image.
        mode: `channel`, each RGB channel of each patch; `luminance`, the luminance of each patch; `image`,
            each RGB channel of all patches together, counted over their tissue pixels; `none`, unchanged.

    Source: Li et al. 2019 ("histogram equalisation" of each patch). The paper does not say of which channels.
    `channel` is its literal reading; docs/decisions/0012 compares the four.
    """
    match mode:
        case "none":
            return patches.copy()
        case "channel":
            return _equalise_channels(patches)
        case "luminance":
            return _equalise_luminance(patches)
        case "image":
            return _equalise_image(patches)


def equalise_block(
    patches: UInt8[np.ndarray, "patch height width 3"], *, mode: Equalise
) -> UInt8[np.ndarray, "patch height width 3"]:
    """The same for a part of the patches of an image.

    Raises:
        ConfigError: If the mode is `image`, which needs all patches at once.
    """
    if mode == "image":
        raise ConfigError(IMAGE_WITH_ENCODER)
    return equalise(patches, mode=mode)


def _equalise_channels(
    patches: UInt8[np.ndarray, "patch height width 3"],
) -> UInt8[np.ndarray, "patch height width 3"]:
    import cv2

    planes = np.ascontiguousarray(patches.transpose(0, 3, 1, 2))
    for plane in planes.reshape(-1, *planes.shape[2:]):
        cv2.equalizeHist(plane, plane)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _equalise_luminance(
    patches: UInt8[np.ndarray, "patch height width 3"],
) -> UInt8[np.ndarray, "patch height width 3"]:
    import cv2

    equal = np.empty_like(patches)
    for patch, out in zip(patches, equal, strict=True):
        ycrcb = cv2.cvtColor(patch, cv2.COLOR_RGB2YCrCb)
        ycrcb[..., 0] = cv2.equalizeHist(np.ascontiguousarray(ycrcb[..., 0]))
        cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB, out)
    return equal


def _equalise_image(
    patches: UInt8[np.ndarray, "patch height width 3"],
) -> UInt8[np.ndarray, "patch height width 3"]:
    """One look-up table for each channel, the same for all patches, so that they stay comparable.

    Background is kept out of the histograms: its share differs between images, and would shift all colours.
    """
    if len(patches) == 0:
        return patches.copy()
    strips = patches.reshape(-1, *patches.shape[2:])
    is_tissue = segment_strips([strips], rule="s-or-v", downsample=1.0).is_tissue
    counts = np.zeros((3, 256), np.int64)
    for first in range(0, len(strips), BLOCK_ROWS):
        pixels = strips[first : first + BLOCK_ROWS][is_tissue[first : first + BLOCK_ROWS]]
        counts += [np.bincount(pixels[:, channel], minlength=256) for channel in range(3)]
    equal = np.empty_like(patches)
    for channel in range(3):
        np.take(_equalising_table(counts[channel]), patches[..., channel], out=equal[..., channel])
    return equal


def _equalising_table(counts: Int64[np.ndarray, " value"]) -> UInt8[np.ndarray, " value"]:
    """The new value of each value, as in OpenCV: its cumulative count, stretched so that the lowest is 0.

    Unchanged values if all counted pixels, or none, have the same value.
    """
    cumulative = counts.cumsum()
    lowest = counts[np.flatnonzero(counts)[:1]].sum()
    if cumulative[-1] == lowest:
        return np.arange(256, dtype=np.uint8)
    scaled = 255.0 * (cumulative - lowest) / (cumulative[-1] - lowest)
    return np.rint(scaled.clip(0)).astype(np.uint8)
