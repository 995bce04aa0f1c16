"""A picture that was decoded whole, as a slide with one level."""

import numpy as np
from jaxtyping import UInt8

from hardmil.slides.level_source import Level
from hardmil.slides.pictures import Picture
from hardmil.slides.resolution import Scale


class PictureSource:
    """The `LevelSource` of a picture in memory."""

    def __init__(self, picture: Picture) -> None:
        height, width = picture.rgb.shape[:2]
        self.levels = (Level(width, height, 1.0),)
        self.scale = Scale(picture.mpp, picture.mpp)
        self.icc_profile = picture.icc_profile
        self._rgb = picture.rgb

    def read_level(
        self, level: int, *, x: int, y: int, width: int, height: int
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle in px of the picture; white outside."""
        size = self.levels[level]
        region = np.full((height, width, 3), 255, np.uint8)
        left, right = max(x, 0), min(x + width, size.width_px)
        top, bottom = max(y, 0), min(y + height, size.height_px)
        if left < right and top < bottom:
            region[top - y : bottom - y, left - x : right - x] = self._rgb[top:bottom, left:right]
        return region

    def close(self) -> None:
        """Nothing to release: the file was closed after decoding."""
