"""Conversion of a slide's colours to sRGB by its embedded colour profile."""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from hardmil.errors import SlideError
from hardmil.slides.slide import Slide

Pixels = UInt8[np.ndarray, "*shape 3"]


def to_srgb(slide: Slide) -> Callable[[Pixels], Pixels]:
    """A function that converts the slide's colours to sRGB; without a profile it returns them unchanged.

    The conversion is relative colorimetric, as in display software: white stays white.

    Raises:
        SlideError: If the profile is broken or not an RGB profile.
    """
    if slide.icc_profile is None:
        return _unchanged
    try:
        transform = ImageCms.buildTransform(
            ImageCms.getOpenProfile(io.BytesIO(slide.icc_profile)),
            _srgb(),
            "RGB",
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise SlideError(
            f"{slide.path}: its ICC profile cannot be applied ({error}); expected an RGB profile; set "
            "patches.icc: false to keep its colours unchanged"
        ) from error

    def apply(pixels: Pixels) -> Pixels:
        flat = Image.fromarray(np.ascontiguousarray(pixels).reshape(-1, pixels.shape[-2], 3))
        ImageCms.applyTransform(flat, transform, inPlace=True)
        return np.asarray(flat).reshape(pixels.shape)

    return apply


def _unchanged(pixels: Pixels) -> Pixels:
    return pixels


@cache
def _srgb() -> Any:
    return ImageCms.createProfile("sRGB")
