"""Slides read through OpenSlide; the tiles of a tiled TIFF are decoded here, which is faster."""

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from jaxtyping import UInt8

from hardmil.budget import MIB
from hardmil.errors import SlideError
from hardmil.geometry import Downsample, Rectangle
from hardmil.slides.level_source import Level, damaged
from hardmil.slides.pictures import DAMAGE, over_white
from hardmil.slides.resolution import Scale, positive
from hardmil.slides.tiff_tiles import TiledPage, images_of, is_complete, unsupported

if TYPE_CHECKING:
    import openslide

CACHE_BYTES = 64 * MIB
"""Size of the tile cache of each slide: more than one row of the tiles that a read touches."""

_TILED_TIFF = ("aperio", "generic-tiff")
# JPEG, LZW, deflate (two codes) and uncompressed: these decode to the same pixels as in OpenSlide.
_SAME_PIXELS = (1, 5, 7, 8, 32946)


class OpenSlideSource:
    """The `LevelSource` of a slide that OpenSlide opens.

    `tiled_pages` are the levels whose tiles are decoded here; OpenSlide reads all others.

    Args:
        file: The file to open; for a DICOM slide, one of its instances.
        path: The slide's file or folder, named in errors; by default `file`.

    Raises:
        SlideError: If OpenSlide cannot open it.
    """

    def __init__(self, file: Path, *, path: Path | None = None) -> None:
        import openslide

        self._path, self._tiff = path or file, None
        try:
            self._slide = openslide.OpenSlide(file)
            self._slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
            self.icc_profile = _icc_profile(self._slide)
        except openslide.OpenSlideError as error:
            raise damaged(self._path, "is a slide that cannot be opened", reason=error) from error
        try:
            self._describe(file)
        except SlideError:
            self.close()
            raise

    def _describe(self, file: Path) -> None:
        """Read levels, resolution and scanned area of the open slide."""
        properties = self._slide.properties
        self.scale = Scale(
            positive(properties.get("openslide.mpp-x")),
            positive(properties.get("openslide.mpp-y")),
            positive(properties.get("openslide.objective-power")),
        )
        self.image_type = properties.get("dicom.ImageType[3]")
        self._tiff, self.tiled_pages = _tiled_pages(file, slide=self._slide)
        self.levels = tuple(
            Level(width, height, _downsample(self._slide, index), _tile_px(properties, index))
            for index, (width, height) in enumerate(self._slide.level_dimensions)
        )
        if properties.get("openslide.vendor") in _TILED_TIFF:
            self._check_tiles()
        self.bounds = _bounds(properties)
        self.notes: tuple[str, ...] = ()

    def _check_tiles(self) -> None:
        """Raise SlideError for a tile that fits no cache: OpenSlide would decode it for every read."""
        for index, level in enumerate(self.levels):
            width, height = level.tile_px
            if index not in self.tiled_pages and width * height * 4 > CACHE_BYTES:
                raise SlideError(
                    f"{self._path}: level {index} has tiles of {width} x {height} px; expected at most "
                    f"{CACHE_BYTES // 4:,} px; convert it: vips tiffsave IN OUT.tif --tile --pyramid "
                    "--compression jpeg"
                )

    def read_level(
        self, level: int, *, x: int, y: int, width: int, height: int
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        Raises:
            SlideError: If the file is damaged there.
        """
        import openslide

        page, downsample = self.tiled_pages.get(level), self.levels[level].downsample
        left, top = round(x / downsample.x), round(y / downsample.y)
        if page is not None:
            return page.read(left, top, width, height)
        # OpenSlide divides both by the one factor that it has for the level.
        factor = self._slide.level_downsamples[level]
        try:
            region = self._slide.read_region(
                (round(left * factor), round(top * factor)), level, (width, height)
            )
        except openslide.OpenSlideError as error:
            raise damaged(
                self._path, f"cannot be read at x {x}, y {y}, level {level}", reason=error
            ) from error
        return over_white(np.asarray(region))

    def close(self) -> None:
        """Release the file."""
        self._slide.close()
        if self._tiff is not None:
            self._tiff.close()


def _downsample(slide: "openslide.OpenSlide", level: int) -> Downsample:
    """The factor of each axis. OpenSlide gives their mean, unless the format states one factor for both."""
    found = Downsample.between(slide.dimensions, slide.level_dimensions[level])
    factor = slide.level_downsamples[level]
    is_mean = math.isclose(factor, (found.x + found.y) / 2, rel_tol=1e-9)
    return found if is_mean else Downsample(factor, factor)


def _bounds(properties: Mapping[str, str]) -> Rectangle | None:
    """The scanned area, as SCN and MRXS slides state it; None if the slide does not."""
    try:
        x, y, width, height = (
            int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return None
    return Rectangle(x, y, width, height) if min(width, height) > 0 else None


def _tile_px(properties: Mapping[str, str], level: int) -> tuple[int, int]:
    width, height = (
        positive(properties.get(f"openslide.level[{level}].tile-{edge}")) for edge in ("width", "height")
    )
    return (int(width), int(height)) if width and height else (512, 512)


def _icc_profile(slide: "openslide.OpenSlide") -> bytes | None:
    """The colour profile in the file, None if there is none; empty, hence unusable, if it is broken."""
    from PIL import ImageCms

    try:
        profile = slide.color_profile
    except (OSError, ImageCms.PyCMSError):
        return b""
    return None if profile is None else profile.tobytes()


def _tiled_pages(
    path: Path, *, slide: "openslide.OpenSlide"
) -> tuple[tifffile.TiffFile | None, dict[int, TiledPage]]:
    """The open TIFF, and its levels whose tiles are decoded here; OpenSlide reads all others.

    A level with a tile that is missing or beyond the end of the file is left to OpenSlide: it returns white
    for a tile that Aperio left out, and raises an error for a truncated one.
    """
    if slide.properties.get("openslide.vendor") not in _TILED_TIFF:
        return None, {}
    try:
        tiff = tifffile.TiffFile(path)
    except DAMAGE:
        # OpenSlide opened it, so it can be read without tifffile.
        return None, {}
    try:
        return tiff, _decodable(path, tiff, slide=slide)
    except SlideError:
        tiff.close()
        raise
    except DAMAGE:
        tiff.close()
        return None, {}


def _decodable(path: Path, tiff: tifffile.TiffFile, *, slide: "openslide.OpenSlide") -> dict[int, TiledPage]:
    """The levels whose tiles are decoded here.

    Raises:
        SlideError: If a channel of the slide has more than 8 bits. OpenSlide reads the upper 8: of data of 12
            bits, nearly nothing.
    """
    sizes = slide.level_dimensions
    for page in images_of(tiff):
        if (page.imagewidth, page.imagelength) == sizes[0] and page.bitspersample > 8:
            raise SlideError(
                f"{path}: holds {page.dtype} pixels ({page.bitspersample} bits a channel); expected 8-bit "
                "RGB, as from a brightfield scanner; export it as 8-bit RGB"
            )
    found = {index: _page_of(tiff, size) for index, size in enumerate(sizes)}
    n_bytes, lock = path.stat().st_size, threading.Lock()
    return {
        level: TiledPage(path, page=page, lock=lock)
        for level, page in found.items()
        if page is not None and is_complete(page, n_bytes=n_bytes)
    }


def _page_of(tiff: tifffile.TiffFile, size: tuple[int, int]) -> tifffile.TiffPage | None:
    """The one tiled page of this size; None unless it surely decodes to the same pixels as in OpenSlide."""
    fit = [page for page in images_of(tiff) if page.is_tiled and (page.imagewidth, page.imagelength) == size]
    if len(fit) != 1 or unsupported(fit[0]) is not None:
        return None
    page = fit[0]
    return page if page.compression in _SAME_PIXELS and page.samplesperpixel == 3 else None
