"""An open slide: one class for all formats, on top of a `LevelSource`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import final

import numpy as np
from jaxtyping import Int, UInt8

from hardmil.errors import SlideError
from hardmil.geometry import Downsample, Frame, Rectangle, best_level
from hardmil.slides.level_source import LevelSource

STRIP_PX = 4_000_000
"""Pixels read at once for a thumbnail, so that a slide with a single huge level does not fill the memory."""


@final
class Slide:
    """An open slide, best used in a `with` statement.

    `width_px` and `height_px` are those of level 0. `mpp` is micrometres per level-0 px, None if the file
    states no plausible value; `scale` is what the file states. `icc_profile` is the colour profile in the
    file, None if there is none. `bounds` is the scanned area, the whole slide unless the file states one;
    `notes` tell the user what was chosen in the file. `read` may be called from several threads.

    Args:
        path: The slide's file or folder, named in every error.
        source: The open file; closed together with the slide.
    """

    def __init__(self, path: Path, source: LevelSource) -> None:
        self.path = path
        self.levels = source.levels
        self.width_px, self.height_px = self.levels[0].width_px, self.levels[0].height_px
        self.scale = source.scale
        self.mpp = self.scale.mpp
        self.icc_profile = source.icc_profile
        self.bounds = _inside(source.bounds, Rectangle(0, 0, self.width_px, self.height_px))
        self.notes = source.notes
        self._source: LevelSource | None = source
        self._n_reading = 0
        self._read_ended = threading.Condition()

    def read(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        Raises:
            SlideError: If the rectangle has no area, the level does not exist, the slide is closed, or the
                file is damaged there.
        """
        if width < 1 or height < 1:
            raise SlideError(
                f"{self.path}: a region of {width} x {height} px was asked for; give both at least 1"
            )
        if not 0 <= level < len(self.levels):
            last = len(self.levels) - 1
            raise SlideError(
                f"{self.path}: level {level} was asked for; the slide has levels 0 to {last}; use one of them"
            )
        with self._reading() as source:
            return source.read_level(level, x=x, y=y, width=width, height=height)

    @property
    def origin(self) -> tuple[int, int]:
        """Top-left corner of the scanned area, level-0 px: where coordinates start in QuPath."""
        return self.bounds.x, self.bounds.y

    def thumbnail(self, max_edge_px: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB of the whole slide, longer edge at most `max_edge_px`, never enlarged, averaged by area.

        Raises:
            SlideError: If `max_edge_px` is below 1, the slide is closed, or the file is damaged.
        """
        return np.concatenate(list(read_strips(self, max_edge_px=max_edge_px)))

    def level_for(self, downsample: float | int) -> int:
        """Index of the coarsest level that is at least as fine as `downsample`; 0 if none is."""
        return best_level([max(level.downsample) for level in self.levels], wanted=downsample)

    def close(self) -> None:
        """Release the file, once all reads in progress have ended; safe to call twice."""
        with self._read_ended:
            source, self._source = self._source, None
            self._read_ended.wait_for(lambda: self._n_reading == 0)
        if source is not None:
            source.close()

    @contextmanager
    def _reading(self) -> Iterator[LevelSource]:
        """The source, kept open during the block."""
        with self._read_ended:
            if self._source is None:
                raise SlideError(f"{self.path}: is closed; open it again to read from it")
            source = self._source
            self._n_reading += 1
        try:
            yield source
        finally:
            with self._read_ended:
                self._n_reading -= 1
                self._read_ended.notify_all()

    def __enter__(self) -> "Slide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_strips(
    slide: Slide, *, max_edge_px: int, within: Rectangle | None = None
) -> Iterator[UInt8[np.ndarray, "_ column 3"]]:
    """The thumbnail in strips from top to bottom, so that memory does not grow with the slide's area.

    Args:
        slide: An open slide.
        max_edge_px: Maximum edge of the thumbnail.
        within: The area to show; None for the whole slide.

    Raises:
        SlideError: If `max_edge_px` is below 1, the slide is closed, or the file is damaged.
    """
    import cv2

    if max_edge_px < 1:
        raise SlideError(f"{slide.path}: a thumbnail of {max_edge_px} px was asked for; give at least 1")
    area = within or Rectangle(0, 0, slide.width_px, slide.height_px)
    downsample = max(1.0, max(area.width, area.height) / max_edge_px)
    index = slide.level_for(downsample)
    level = slide.levels[index]
    width, height = (max(1, round(edge / downsample)) for edge in (area.width, area.height))
    level_width, level_height = (
        max(1, round(edge / factor))
        for edge, factor in zip((area.width, area.height), level.downsample, strict=True)
    )
    n_strips = min(height, 1 + level_width * level_height // STRIP_PX)
    for top, bottom in pairwise(height * i // n_strips for i in range(n_strips + 1)):
        y0, y1 = (round(row * level_height / height) for row in (top, bottom))
        y = area.y + round(y0 * level.downsample.y)
        strip = slide.read(area.x, y, level_width, max(1, y1 - y0), index)
        if strip.shape[:2] != (bottom - top, width):
            strip = np.asarray(
                cv2.resize(strip, (width, bottom - top), interpolation=cv2.INTER_AREA), np.uint8
            )
        yield strip


def picture_of_bounds(slide: Slide, *, max_edge_px: int) -> tuple[UInt8[np.ndarray, "height width 3"], Frame]:
    """RGB of the scanned area of a slide, longer edge at most `max_edge_px`, and where it is on the slide.

    Raises:
        SlideError: If `max_edge_px` is below 1, the slide is closed, or the file is damaged.
    """
    area = slide.bounds
    rgb = np.concatenate(list(read_strips(slide, max_edge_px=max_edge_px, within=area)))
    height, width = rgb.shape[:2]
    downsample = Downsample.between((area.width, area.height), (width, height))
    return rgb, Frame(area.x, area.y, downsample)


def check_patches_inside(slide: Slide, coords: Int[np.ndarray, "patch 2"]) -> None:
    """Check that the top-left corners of all patches, in level-0 px, are on the slide.

    Raises:
        SlideError: If one is not; the first is named.
    """
    edges = slide.width_px, slide.height_px
    outside = np.flatnonzero(((coords < 0) | (coords >= np.array(edges))).any(axis=1))
    if len(outside):
        x, y = coords[outside[0]].tolist()
        raise SlideError(
            f"{slide.path}: {len(outside)} of {len(coords)} patches are outside it, first ({x}, {y}); "
            f"expected corners on its {edges[0]} x {edges[1]} px; they are of another slide, or of another "
            "scan of it: correct the path, or make the patches again"
        )


def _inside(area: Rectangle | None, whole: Rectangle) -> Rectangle:
    """The part of an area that is on the slide; the whole slide if there is none."""
    if area is None:
        return whole
    left, top = max(area.x, 0), max(area.y, 0)
    right, bottom = min(area.x + area.width, whole.width), min(area.y + area.height, whole.height)
    return Rectangle(left, top, right - left, bottom - top) if left < right and top < bottom else whole
