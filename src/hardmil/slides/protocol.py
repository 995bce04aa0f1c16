"""What every open slide can do, whatever its format, and what all readers share."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.geometry import best_level
from hardmil.slides.resolution import Scale

STRIP_PX = 4_000_000
"""Pixels read at once for a thumbnail, so that a slide of one huge level does not fill the memory."""


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; `downsample` is level-0 px per px of it."""

    width_px: int
    height_px: int
    downsample: float
    tile_px: tuple[int, int] = field(default=(512, 512), compare=False)
    """Width and height of what the file stores as one piece: reading along its edges decodes it once."""


@runtime_checkable
class SlideReader(Protocol):
    """An open slide.

    `mpp` is micrometres per level-0 px, None where the file says none that can be believed; `scale` is what
    it does say. `icc_profile` is the colour profile in the file, None where there is none. `read` may be
    called from several threads.
    """

    path: Path
    width_px: int
    height_px: int
    mpp: float | None
    scale: Scale
    icc_profile: bytes | None
    levels: tuple[Level, ...]

    def read(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside."""
        ...

    def thumbnail(self, max_edge_px: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB of the whole slide, its longer edge at most `max_edge_px`, never enlarged."""
        ...

    def close(self) -> None:
        """Release the file; safe to call twice."""
        ...

    def __enter__(self) -> "SlideReader": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_rectangle(slide: SlideReader, *, width: int, height: int, level: int) -> None:
    """Nothing, where `read` can be answered.

    Raises:
        SlideError: If the rectangle has no area or the slide no such level.
    """
    if width < 1 or height < 1:
        raise SlideError(
            f"{slide.path}: a region of {width} x {height} px was asked for; give both at least 1"
        )
    if not 0 <= level < len(slide.levels):
        raise SlideError(
            f"{slide.path}: level {level} was asked for; the slide has levels 0 to {len(slide.levels) - 1}"
        )


def read_thumbnail(slide: SlideReader, *, max_edge_px: int) -> UInt8[np.ndarray, "height width 3"]:
    """RGB of the whole slide, longer edge at most `max_edge_px`, averaged by area from the best level.

    Raises:
        SlideError: If the slide cannot be read, or `max_edge_px` is below 1.
    """
    return np.concatenate(list(read_strips(slide, max_edge_px=max_edge_px)))


def read_strips(slide: SlideReader, *, max_edge_px: int) -> Iterator[UInt8[np.ndarray, "_ column 3"]]:
    """The same from top to bottom in strips, so that memory does not grow with the slide's area.

    Raises:
        SlideError: If the slide cannot be read, or `max_edge_px` is below 1.
    """
    import cv2

    if max_edge_px < 1:
        raise SlideError(f"{slide.path}: a thumbnail of {max_edge_px} px was asked for; give at least 1")
    downsample = max(1.0, max(slide.width_px, slide.height_px) / max_edge_px)
    index = best_level([level.downsample for level in slide.levels], wanted=downsample)
    level = slide.levels[index]
    width, height = (max(1, round(edge / downsample)) for edge in (slide.width_px, slide.height_px))
    n_strips = min(height, 1 + level.width_px * level.height_px // STRIP_PX)
    for top, bottom in pairwise(height * i // n_strips for i in range(n_strips + 1)):
        y0, y1 = (round(row * level.height_px / height) for row in (top, bottom))
        strip = slide.read(0, round(y0 * level.downsample), level.width_px, max(1, y1 - y0), index)
        if strip.shape[:2] != (bottom - top, width):
            strip = np.asarray(
                cv2.resize(strip, (width, bottom - top), interpolation=cv2.INTER_AREA), np.uint8
            )
        yield strip


def damaged(path: Path, what: str, *, reason: object) -> SlideError:
    """The error of a file that is there and cannot be read."""
    return SlideError(f"{path}: {what} ({reason}); the file is probably damaged or incomplete, copy it again")
