"""A picture that was decoded whole, as a slide with one level."""

import numpy as np
from jaxtyping import UInt8

from hardmil.geometry import Downsample
from hardmil.slides.level_source import Level, read_clipped
from hardmil.slides.pictures import Picture


class PictureSource:
    """The `LevelSource` of a picture in memory."""

    def __init__(self, picture: Picture) -> None:
        height, width = picture.rgb.shape[:2]
        self.levels = (Level(width, height, Downsample(1.0, 1.0)),)
        self.scale = picture.scale
        self.icc_profile = picture.icc_profile
        self.bounds = None
        self.notes: tuple[str, ...] = ()
        self._rgb = picture.rgb

    def read_level(
        self, level: int, *, x: int, y: int, width: int, height: int
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle in px of the picture; white outside."""

        def read(left: int, top: int, right: int, bottom: int) -> UInt8[np.ndarray, "_ _ 3"]:
            return self._rgb[top:bottom, left:right]

        return read_clipped(self.levels[level], x=x, y=y, width=width, height=height, read=read)

    def close(self) -> None:
        """Nothing to release: the file was closed after decoding."""
