"""Tiles of a slide for deep zoom, at scales of 1, 1/2, 1/4, ... of level 0."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from hardmil.geometry import Rectangle
from hardmil.slides.slide import Slide, read_strips

TILE_PX = 512
JPEG_QUALITY = 88


@dataclass(frozen=True)
class Pyramid:
    """The scales of a slide: at `max_level` one px is one level-0 px, at each level below it twice as much.

    At `min_level` the whole slide is one tile.
    """

    width_px: int
    height_px: int

    @property
    def max_level(self) -> int:
        """The level of full resolution: log2 of the longer edge, as in Deep Zoom images."""
        return max(0, math.ceil(math.log2(max(self.width_px, self.height_px))))

    @property
    def min_level(self) -> int:
        """The highest level at which the whole slide is one tile."""
        return min(self.max_level, int(math.log2(TILE_PX)))

    def grid(self, level: int) -> tuple[int, int]:
        """Numbers of columns and rows of tiles at a level."""
        scale = 2 ** (self.max_level - level)
        columns, rows = (
            math.ceil(math.ceil(edge / scale) / TILE_PX) for edge in (self.width_px, self.height_px)
        )
        return columns, rows

    def has(self, level: int, *, column: int, row: int) -> bool:
        """Whether there is such a tile."""
        if not self.min_level <= level <= self.max_level:
            return False
        columns, rows = self.grid(level)
        return 0 <= column < columns and 0 <= row < rows

    def area(self, level: int, *, column: int, row: int) -> tuple[Rectangle, tuple[int, int]]:
        """The area of a tile in level-0 px; width and height of its picture. Tiles at the end are smaller."""
        scale = 2 ** (self.max_level - level)
        x, y = column * TILE_PX * scale, row * TILE_PX * scale
        width = min(TILE_PX * scale, self.width_px - x)
        height = min(TILE_PX * scale, self.height_px - y)
        return Rectangle(x, y, width, height), (math.ceil(width / scale), math.ceil(height / scale))


def read_area(
    slide: Slide, area: Rectangle, *, size_px: tuple[int, int]
) -> UInt8[np.ndarray, "row column 3"]:
    """RGB of an area of an open slide at this width and height; white outside the slide.

    It is read from the coarsest level that is fine enough, in strips: memory does not grow with the area.

    Raises:
        SlideError: If its pixels cannot be read.
    """
    rgb = np.concatenate(list(read_strips(slide, max_edge_px=max(size_px), within=area)))
    if rgb.shape[1::-1] == size_px:
        return rgb
    rule = cv2.INTER_CUBIC if size_px[0] > rgb.shape[1] else cv2.INTER_AREA
    return np.asarray(cv2.resize(rgb, size_px, interpolation=rule), np.uint8)


def jpeg_bytes(image: UInt8[np.ndarray, "row column 3"]) -> bytes:
    """An RGB image as the bytes of a JPEG file, without subsampled colours: nuclei keep their edges."""
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
