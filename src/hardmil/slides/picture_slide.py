"""A picture that was decoded whole, as a slide of one level."""

from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.slides.pictures import Picture
from hardmil.slides.protocol import Level, check_rectangle, read_thumbnail
from hardmil.slides.resolution import Scale


class PictureSlide:
    """A picture in memory, as a slide of one level."""

    def __init__(self, path: Path, *, picture: Picture) -> None:
        self.path = path
        self.mpp = picture.mpp
        self.scale = Scale(picture.mpp, picture.mpp)
        self.icc_profile = picture.icc_profile
        self.height_px, self.width_px = picture.rgb.shape[:2]
        self.levels = (Level(self.width_px, self.height_px, 1.0),)
        self._picture: Picture | None = picture

    def read(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle in px of the picture; white outside it.

        Raises:
            SlideError: If the slide is closed or has no such level.
        """
        check_rectangle(self, width=width, height=height, level=level)
        if self._picture is None:
            raise SlideError(f"{self.path}: is closed; open it again to read from it")
        region = np.full((height, width, 3), 255, np.uint8)
        left, right = max(x, 0), min(x + width, self.width_px)
        top, bottom = max(y, 0), min(y + height, self.height_px)
        if left < right and top < bottom:
            region[top - y : bottom - y, left - x : right - x] = self._picture.rgb[top:bottom, left:right]
        return region

    def thumbnail(self, max_edge_px: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB of the whole picture, its longer edge at most `max_edge_px`, never enlarged.

        Raises:
            SlideError: If the slide is closed.
        """
        return read_thumbnail(self, max_edge_px=max_edge_px)

    def close(self) -> None:
        """Forget the pixels; safe to call twice."""
        self._picture = None

    def __enter__(self) -> "PictureSlide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
