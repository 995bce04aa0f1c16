"""Histogram equalisation of patches."""

from typing import Literal

import numpy as np
from jaxtyping import UInt8

Equalise = Literal["channel", "luminance", "none"]


def equalise(
    patches: UInt8[np.ndarray, "patch height width 3"], *, mode: Equalise
) -> UInt8[np.ndarray, "patch height width 3"]:
    """A copy of the patches, each with equalised histograms: of its RGB channels, of its luminance, or none.

    Equalisation commutes with flips and quarter turns, so it is done once, when bags are made.

    Source: Li et al. 2019 ("histogram equalisation" of each patch). The paper does not say of which channels;
    `channel` is our interpretation (docs: METHOD).
    """
    match mode:
        case "none":
            return patches.copy()
        case "channel":
            return _equalise_channels(patches)
        case "luminance":
            return _equalise_luminance(patches)


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
