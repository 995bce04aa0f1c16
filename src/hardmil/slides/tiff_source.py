"""OME-TIFF, QPTIFF and plain TIFF through tifffile, read tile by tile or strip by strip."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.geometry import SAME_SCALE
from hardmil.slides.level_source import Level, damaged
from hardmil.slides.picture_source import PictureSource
from hardmil.slides.pictures import DAMAGE, decode_picture
from hardmil.slides.resolution import Scale, positive
from hardmil.slides.tiff_tiles import TiledPage, is_complete, unsupported

_UM_OF = {
    **{"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6},
    **{"Å": 1e-4, "in": 25_400.0, "inch": 25_400.0},
}
_UM_OF_UNIT_TAG = {2: 25_400.0, 3: 10_000.0}
_ICC_TAG = 34675


class TiffSource:
    """The `LevelSource` of a TIFF with one or more levels, each an 8-bit RGB or grey image."""

    def __init__(self, tiff: tifffile.TiffFile, *, pages: list[TiledPage], scale: Scale) -> None:
        first = pages[0]
        self.levels = tuple(
            Level(page.width_px, page.height_px, first.width_px / page.width_px, page.tile_px)
            for page in pages
        )
        self.scale = scale
        self.icc_profile: bytes | None = tiff.pages.first.tags.valueof(_ICC_TAG)
        self._tiff, self._pages = tiff, pages

    def read_level(
        self, level: int, *, x: int, y: int, width: int, height: int
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        Raises:
            SlideError: If the file is damaged there.
        """
        downsample = self.levels[level].downsample
        return self._pages[level].read(round(x / downsample), round(y / downsample), width, height)

    def close(self) -> None:
        """Release the file."""
        self._tiff.close()


def is_ome_or_qptiff(path: Path) -> bool:
    """Whether a TIFF is labelled as OME-TIFF or QPTIFF; False if it cannot be read."""
    try:
        with _silent(), tifffile.TiffFile(path) as tiff:
            return tiff.is_ome or tiff.is_qpi
    except DAMAGE:
        return False


def open_tiff(path: Path) -> TiffSource | PictureSource:
    """The levels of a TIFF; a file in a layout that only Pillow reads is decoded whole.

    Raises:
        SlideError: If it is damaged, or its pixels are not 8-bit RGB or grey.
    """
    try:
        with _silent():
            tiff = tifffile.TiffFile(path)
    except DAMAGE as error:
        raise damaged(path, "cannot be decoded", reason=error) from error
    try:
        with _silent():
            return _opened(path, tiff)
    except SlideError:
        tiff.close()
        raise
    except DAMAGE as error:
        tiff.close()
        raise damaged(path, "cannot be decoded", reason=error) from error


def _opened(path: Path, tiff: tifffile.TiffFile) -> TiffSource | PictureSource:
    pages = _levels(path, tiff)
    reason = unsupported(pages[0])
    if reason is not None and len(pages) == 1 and not (tiff.is_ome or tiff.is_qpi):
        tiff.close()
        return PictureSource(decode_picture(path))
    if reason is not None:
        raise SlideError(
            f"{path}: {reason}; expected 8-bit RGB, as from a brightfield scanner; export it as 8-bit RGB"
        )
    n_bytes, lock = path.stat().st_size, threading.Lock()
    if not all(is_complete(page, n_bytes=n_bytes) for page in pages):
        raise damaged(path, "is incomplete", reason="its pixels end too early")
    tiled = [TiledPage(path, page=page, lock=lock) for page in pages]
    return TiffSource(tiff, pages=tiled, scale=_scale(tiff))


def _levels(path: Path, tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The images of the pyramid, finest first; coarser ones that cannot be read are left out."""
    if not (tiff.is_ome or tiff.is_qpi):
        first = tiff.pages.first
        reduced = [page for page in list(tiff.pages)[1:] if isinstance(page, tifffile.TiffPage)]
        return [first, *(page for page in reduced if _is_reduced(page, of=first))]
    series = tiff.series[0]
    if len(series.pages) != 1 or set(series.axes) - set("YXS"):
        shape = " x ".join(f"{n} {axis}" for n, axis in zip(series.shape, series.axes, strict=True))
        raise SlideError(
            f"{path}: holds {len(series.pages)} images ({shape}); expected one RGB image; fluorescence "
            "channels and z-stacks are not supported: export one plane as 8-bit RGB"
        )
    pages = [level.keyframe for level in series.levels]
    return [pages[0], *(page for page in pages[1:] if unsupported(page) is None)]


def _is_reduced(page: tifffile.TiffPage, *, of: tifffile.TiffPage) -> bool:
    """Whether a page is a coarser level of another: marked as reduced, same layout, same aspect ratio."""
    if not page.is_reduced or page.is_tiled != of.is_tiled or unsupported(page) is not None:
        return False
    ratios = of.imagewidth / page.imagewidth, of.imagelength / page.imagelength
    return min(ratios) > 1 and max(ratios) < min(ratios) * SAME_SCALE


def _scale(tiff: tifffile.TiffFile) -> Scale:
    first = tiff.pages.first
    if tiff.is_ome:
        found = _ome_scale(tiff.ome_metadata or "")
        return found if found.mpp_x is not None else _tag_scale(first)
    if tiff.is_qpi:
        return _qptiff_scale(first)
    return _tag_scale(first)


def _ome_scale(xml: str) -> Scale:
    """Scale from the first image of OME-XML: PhysicalSizeX and Y with units, NominalMagnification."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return Scale()
    named = {node.tag.rpartition("}")[2]: node for node in reversed(list(root.iter()))}
    pixels, objective = named.get("Pixels"), named.get("Objective")
    sizes = [_physical_size(pixels, axis) if pixels is not None else None for axis in "XY"]
    power = positive(objective.get("NominalMagnification")) if objective is not None else None
    return Scale(sizes[0], sizes[1], power)


def _physical_size(pixels: ElementTree.Element, axis: str) -> float | None:
    size = positive(pixels.get(f"PhysicalSize{axis}"))
    um = _UM_OF.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return size * um if size is not None and um is not None else None


def _qptiff_scale(page: tifffile.TiffPage) -> Scale:
    """Scale from the XML of a QPTIFF, or from its tags where the XML has no pixel size."""
    try:
        root = ElementTree.fromstring(page.description)
    except ElementTree.ParseError:
        return _tag_scale(page)
    text = {node.tag: node.text for node in root.iter()}
    tags = _tag_scale(page)
    size = positive(text.get("PixelSizeMicrons"))
    power = positive((text.get("Magnification") or text.get("Objective") or "").strip().rstrip("xX"))
    return Scale(size or tags.mpp_x, size or tags.mpp_y, power)


def _tag_scale(page: tifffile.TiffPage) -> Scale:
    """Scale from XResolution and YResolution; often a screen resolution: see `plausible_mpp`."""
    um = _UM_OF_UNIT_TAG.get(int(page.tags.valueof(296, 2) or 0))
    sizes: list[float | None] = []
    for code in (282, 283):
        numerator, denominator = page.tags.valueof(code, (0, 1))
        sizes.append(um * denominator / numerator if um and numerator and denominator else None)
    return Scale(sizes[0], sizes[1])


@contextmanager
def _silent() -> Iterator[None]:
    """Silence tifffile's warnings about tags during the block; real errors are raised."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
