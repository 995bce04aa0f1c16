"""Open a slide of any format and read its pixels.

Whatever OpenSlide opens is read through it, region by region. Pictures (PNG, JPEG, BMP, plain TIFF) are read
whole and have one level. Every library's exception becomes a `SlideError` that names the file.
"""

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.geometry import best_level
from hardmil.slides.pictures import Picture, decode_picture, over_white, plausible_mpp

STRIP_PX = 16_000_000
"""Pixels read at once for a thumbnail, so that a slide of one huge level does not fill the memory."""


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; `downsample` is level-0 px per px of it."""

    width_px: int
    height_px: int
    downsample: float


@runtime_checkable
class SlideReader(Protocol):
    """An open slide. `mpp` is micrometres per level-0 px, None where the file does not say."""

    path: Path
    width_px: int
    height_px: int
    mpp: float | None
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


def open_slide(path: str | Path) -> SlideReader:
    """The slide at `path`, open; use it in a `with` statement.

    Raises:
        SlideError: If there is no such file, or it cannot be read, or it holds no image that is understood.
    """
    path = Path(path)
    _check_file(path)
    match _openslide_format(path):
        case None:
            return PictureSlide(path, picture=decode_picture(path))
        case "generic-tiff":
            return _open_tiff(path)
        case _:
            return OpenSlideReader(path)


def _openslide_format(path: Path) -> str | None:
    import openslide

    try:
        return openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError as error:
        raise _damaged(path, "is a slide that cannot be opened", reason=error) from error


def _open_tiff(path: Path) -> SlideReader:
    """A plain TIFF that OpenSlide refuses (for its compression, say) may still be a picture to others.

    A scanner's file may not: as a picture it would lose its resolution and its levels without a word.
    """
    try:
        return OpenSlideReader(path)
    except SlideError:
        return PictureSlide(path, picture=decode_picture(path))


def _check_file(path: Path) -> None:
    problem = _problem_of_file(path)
    if problem:
        raise SlideError(f"{path}: {problem}")


def _problem_of_file(path: Path) -> str | None:
    """Why not even a byte of it can be read, in words; None where one can."""
    try:
        if path.is_dir():
            return "is a folder; expected a slide, give the path of the file in it"
        with path.open("rb") as file:
            return None if file.read(1) else "is empty (0 bytes); expected a slide, copy the file again"
    except FileNotFoundError:
        return "there is no such file; check the path column of slides.csv"
    except PermissionError:
        return "no permission to read it; ask its owner or change its mode"
    except OSError as error:
        return f"cannot be read ({error.strerror}); check the path, and the disk or network it is on"


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

    Read in strips, so that memory does not grow with the slide's area.

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
    thumbnail = np.empty((height, width, 3), np.uint8)
    for top, bottom in pairwise(height * i // n_strips for i in range(n_strips + 1)):
        y0, y1 = (round(row * level.height_px / height) for row in (top, bottom))
        strip = slide.read(0, round(y0 * level.downsample), level.width_px, max(1, y1 - y0), index)
        thumbnail[top:bottom] = cv2.resize(strip, (width, bottom - top), interpolation=cv2.INTER_AREA)
    return thumbnail


class OpenSlideReader:
    """A slide read through OpenSlide."""

    def __init__(self, path: Path) -> None:
        import openslide

        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise _damaged(path, "is a slide that cannot be opened", reason=error) from error
        self.path = path
        self.width_px, self.height_px = self._slide.dimensions
        sizes = zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        self.levels = tuple(Level(width, height, downsample) for (width, height), downsample in sizes)
        self.mpp = plausible_mpp(_numbers(self._slide.properties, ["openslide.mpp-x", "openslide.mpp-y"]))

    def read(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        Raises:
            SlideError: If the file is damaged there, or closed, or has no such level.
        """
        import openslide

        check_rectangle(self, width=width, height=height, level=level)
        try:
            region = self._slide.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            raise _damaged(
                self.path, f"cannot be read at x {x}, y {y}, level {level}", reason=error
            ) from error
        except ctypes.ArgumentError as error:
            raise SlideError(f"{self.path}: is closed; open it again to read from it") from error
        return over_white(np.asarray(region))

    def thumbnail(self, max_edge_px: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB of the whole slide, its longer edge at most `max_edge_px`, never enlarged.

        Raises:
            SlideError: If the file is damaged or closed.
        """
        return read_thumbnail(self, max_edge_px=max_edge_px)

    def close(self) -> None:
        """Release the file; safe to call twice."""
        # OpenSlide's handle refuses a second close.
        with suppress(ctypes.ArgumentError):
            self._slide.close()

    def __enter__(self) -> "OpenSlideReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PictureSlide:
    """A picture in memory, as a slide of one level."""

    def __init__(self, path: Path, *, picture: Picture) -> None:
        self.path = path
        self.mpp = picture.mpp
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


def _numbers(properties: Mapping[str, str], names: list[str]) -> list[float]:
    """The properties that are there and are numbers; scanners also write "" and "unknown"."""
    numbers: list[float] = []
    for name in names:
        try:
            numbers.append(float(properties.get(name, "")))
        except ValueError:
            continue
    return numbers


def _damaged(path: Path, what: str, *, reason: object) -> SlideError:
    return SlideError(f"{path}: {what} ({reason}); the file is probably damaged or incomplete, copy it again")
