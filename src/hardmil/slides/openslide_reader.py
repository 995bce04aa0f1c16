"""Slides read through OpenSlide; where it is a tiled TIFF, its pixels are decoded by ourselves, faster."""

import ctypes
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.slides.pictures import DAMAGE, over_white
from hardmil.slides.protocol import Level, check_rectangle, damaged, read_thumbnail
from hardmil.slides.resolution import Scale, positive
from hardmil.slides.tiff_tiles import TiledPage, is_complete, why_not

if TYPE_CHECKING:
    import openslide

CACHE_BYTES = 64 << 20
"""Of decoded tiles a slide: more than one row of those that a read touches."""

_TILED_TIFF = ("aperio", "generic-tiff")
# JPEG, LZW, deflate (two numbers) and none: what gives the very pixels of OpenSlide.
_SAME_PIXELS = (1, 5, 7, 8, 32946)


class OpenSlideReader:
    """A slide that OpenSlide opens.

    Args:
        file: What is opened: one instance of a DICOM slide.
        path: What to call the slide; the file by default.
    """

    def __init__(self, file: Path, *, path: Path | None = None) -> None:
        import openslide

        path = path or file
        try:
            self._slide = openslide.OpenSlide(file)
            self._slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
            self.icc_profile = _icc_profile(self._slide)
        except openslide.OpenSlideError as error:
            raise damaged(path, "is a slide that cannot be opened", reason=error) from error
        self.path = path
        self.width_px, self.height_px = self._slide.dimensions
        properties = self._slide.properties
        self.scale = Scale(
            positive(properties.get("openslide.mpp-x")),
            positive(properties.get("openslide.mpp-y")),
            positive(properties.get("openslide.objective-power")),
        )
        self.mpp = self.scale.mpp
        self.image_type = properties.get("dicom.ImageType[3]")
        self._tiff, self._pages = _fast_pages(file, slide=self._slide)
        self.levels = tuple(
            Level(width, height, downsample, _tile_px(properties, index))
            for index, ((width, height), downsample) in enumerate(
                zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
            )
        )

    def read(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        Raises:
            SlideError: If the file is damaged there, or closed, or has no such level.
        """
        import openslide

        check_rectangle(self, width=width, height=height, level=level)
        page = self._pages.get(level)
        if page is not None:
            downsample = self.levels[level].downsample
            return page.read(round(x / downsample), round(y / downsample), width, height)
        try:
            region = self._slide.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            raise damaged(
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
        if self._tiff is not None:
            self._tiff.close()

    def __enter__(self) -> "OpenSlideReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tile_px(properties: Mapping[str, str], level: int) -> tuple[int, int]:
    width, height = (
        positive(properties.get(f"openslide.level[{level}].tile-{edge}")) for edge in ("width", "height")
    )
    return (int(width), int(height)) if width and height else (512, 512)


def _icc_profile(slide: "openslide.OpenSlide") -> bytes | None:
    """The colour profile in the file; empty, which nobody understands, where it is broken."""
    from PIL import ImageCms

    try:
        profile = slide.color_profile
    except (OSError, ImageCms.PyCMSError):
        return b""
    return None if profile is None else profile.tobytes()


def _fast_pages(
    path: Path, *, slide: "openslide.OpenSlide"
) -> tuple[tifffile.TiffFile | None, dict[int, TiledPage]]:
    """The levels of a tiled TIFF whose tiles we decode ourselves; all others are left to OpenSlide.

    A level of which a tile is missing or lies behind the end of the file is among the others: OpenSlide has
    white where Aperio left one out, and names what is cut off when it is read.
    """
    if slide.properties.get("openslide.vendor") not in _TILED_TIFF:
        return None, {}
    try:
        tiff = tifffile.TiffFile(path)
        found = {index: _page_of(tiff, size) for index, size in enumerate(slide.level_dimensions)}
    except DAMAGE:
        # OpenSlide opened it; what tifffile makes of it does not matter.
        return None, {}
    n_bytes, lock = path.stat().st_size, threading.Lock()
    pages = {
        level: TiledPage(path, page=page, lock=lock)
        for level, page in found.items()
        if page is not None and is_complete(page, n_bytes=n_bytes)
    }
    return tiff, pages


def _page_of(tiff: tifffile.TiffFile, size: tuple[int, int]) -> tifffile.TiffPage | None:
    """The one tiled page of this width and height, if its pixels are sure to be those of OpenSlide."""
    pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
    fit = [page for page in pages if page.is_tiled and (page.imagewidth, page.imagelength) == size]
    if len(fit) != 1 or why_not(fit[0]) is not None:
        return None
    page = fit[0]
    return page if page.compression in _SAME_PIXELS and page.samplesperpixel == 3 else None
