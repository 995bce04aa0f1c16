"""Slides in memory."""

from pathlib import Path

import numpy as np

from hardmil.slides.picture_source import PictureSource
from hardmil.slides.pictures import Picture
from hardmil.slides.resolution import Scale
from hardmil.slides.slide import Slide


def picture_slide(
    rgb: np.ndarray, *, mpp: float | None = None, icc_profile: bytes | None = None, name: str = "slide.png"
) -> Slide:
    """A slide with one level and these pixels."""
    return Slide(Path(name), PictureSource(Picture(rgb, Scale(mpp, mpp), icc_profile)))
