"""What a file format must provide so that `Slide` can read it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.geometry import Downsample, Rectangle
from hardmil.slides.resolution import Scale

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF or BigTIFF, in either byte order."""


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; `downsample` is level-0 px per px of the level, along x and y."""

    width_px: int
    height_px: int
    downsample: Downsample
    tile_px: tuple[int, int] = field(default=(512, 512), compare=False)
    """Width and height of one tile of the file: a read aligned to tiles decodes each tile once."""


@runtime_checkable
class LevelSource(Protocol):
    """The levels of an open slide file, read through one library.

    `Slide` checks every rectangle, and never reads from a source that is closed.
    """

    @property
    def levels(self) -> tuple[Level, ...]:
        """The resolutions in the file, finest first."""
        ...

    @property
    def scale(self) -> Scale:
        """What the file states about its resolution."""
        ...

    @property
    def icc_profile(self) -> bytes | None:
        """The colour profile in the file; None if there is none."""
        ...

    @property
    def bounds(self) -> Rectangle | None:
        """The area that was scanned, as far as the file states it; None for the whole slide."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user on what was chosen in the file; often empty."""
        ...

    def read_level(
        self, level: int, *, x: int, y: int, width: int, height: int
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        May be called from several threads.

        Raises:
            SlideError: If the file is damaged there.
        """
        ...

    def close(self) -> None:
        """Release the file; called once, when no read is in progress."""
        ...


def read_clipped(
    level: Level,
    *,
    x: int,
    y: int,
    width: int,
    height: int,
    read: Callable[[int, int, int, int], UInt8[np.ndarray, "_ _ 3"]],
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """RGB of a rectangle in px of the level; white outside the level.

    `read` returns the part inside from its left, top, right and bottom; it is not called if there is none.
    """
    left, right = max(x, 0), min(x + width, level.width_px)
    top, bottom = max(y, 0), min(y + height, level.height_px)
    region = np.full((height, width, 3), 255, np.uint8)
    if left < right and top < bottom:
        region[top - y : bottom - y, left - x : right - x] = read(left, top, right, bottom)
    return region


def damaged(path: Path, what: str, *, reason: object) -> SlideError:
    """The error for a file that exists and cannot be read."""
    return SlideError(f"{path}: {what} ({reason}); the file is probably damaged or incomplete, copy it again")
