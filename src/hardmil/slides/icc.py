"""An embedded colour profile -> sRGB."""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from hardmil.errors import SlideError
from hardmil.slides.slide import Slide

Pixels = UInt8[np.ndarray, "*place 3"]


def to_srgb(slide: Slide) -> Callable[[Pixels], Pixels]:
    """What turns the slide's colours into sRGB by its own profile; without a profile they are taken for it.

    Relative colorimetric, as display software does: white stays white.

    Raises:
        SlideError: If the profile is broken or is not one of RGB.
    """
    if slide.icc_profile is None:
        return _as_it_is
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
            f"{slide.path}: its ICC profile cannot be applied ({error}); expected one of RGB; set "
            "patches.icc: false to take its colours as they are"
        ) from error

    def apply(pixels: Pixels) -> Pixels:
        flat = Image.fromarray(np.ascontiguousarray(pixels).reshape(-1, pixels.shape[-2], 3))
        ImageCms.applyTransform(flat, transform, inPlace=True)
        return np.asarray(flat).reshape(pixels.shape)

    return apply


def _as_it_is(pixels: Pixels) -> Pixels:
    return pixels


@cache
def _srgb() -> Any:
    return ImageCms.createProfile("sRGB")
