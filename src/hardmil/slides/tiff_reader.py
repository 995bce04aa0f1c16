"""OME-TIFF, QPTIFF and plain TIFF through tifffile: tile by tile or strip by strip, never whole."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from xml.etree import ElementTree

import numpy as np
import tifffile
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.geometry import SAME_SCALE
from hardmil.slides.picture_slide import PictureSlide
from hardmil.slides.pictures import DAMAGE, decode_picture
from hardmil.slides.protocol import Level, SlideReader, check_rectangle, damaged, read_thumbnail
from hardmil.slides.resolution import Scale, positive
from hardmil.slides.tiff_tiles import TiledPage, is_complete, why_not

_UM_OF = {
    **{"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6},
    **{"Å": 1e-4, "in": 25_400.0, "inch": 25_400.0},
}
_UM_OF_UNIT_TAG = {2: 25_400.0, 3: 10_000.0}
_ICC_TAG = 34675


class TiffReader:
    """A TIFF of one or more levels, each an RGB or grey picture of 8 bits."""

    def __init__(self, path: Path, *, tiff: tifffile.TiffFile, pages: list[TiledPage], scale: Scale) -> None:
        first = pages[0]
        self.path = path
        self.width_px, self.height_px = first.width_px, first.height_px
        self.levels = tuple(
            Level(page.width_px, page.height_px, first.width_px / page.width_px, page.tile_px)
            for page in pages
        )
        self.scale = scale
        self.mpp = scale.mpp
        self.icc_profile: bytes | None = tiff.pages.first.tags.valueof(_ICC_TAG)
        self._tiff, self._pages = tiff, pages

    def read(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        Raises:
            SlideError: If the file is damaged there, or closed, or has no such level.
        """
        check_rectangle(self, width=width, height=height, level=level)
        downsample = self.levels[level].downsample
        return self._pages[level].read(round(x / downsample), round(y / downsample), width, height)

    def thumbnail(self, max_edge_px: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB of the whole slide, its longer edge at most `max_edge_px`, never enlarged.

        Raises:
            SlideError: If the file is damaged or closed.
        """
        return read_thumbnail(self, max_edge_px=max_edge_px)

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._tiff.close()

    def __enter__(self) -> "TiffReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_ome_or_qptiff(path: Path) -> bool:
    """Whether a TIFF says of itself that it is one of the two."""
    try:
        with _silent(), tifffile.TiffFile(path) as tiff:
            return tiff.is_ome or tiff.is_qpi
    except DAMAGE:
        return False


def open_tiff(path: Path) -> SlideReader:
    """A TIFF, open; one whose pixels are of a kind that only Pillow knows is decoded whole.

    Raises:
        SlideError: If it is damaged, or holds anything but RGB or grey of 8 bits.
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


def _opened(path: Path, tiff: tifffile.TiffFile) -> SlideReader:
    pages = _levels(path, tiff)
    reason = why_not(pages[0])
    if reason is not None and len(pages) == 1 and not (tiff.is_ome or tiff.is_qpi):
        tiff.close()
        return PictureSlide(path, picture=decode_picture(path))
    if reason is not None:
        raise SlideError(
            f"{path}: {reason}; expected RGB of 8 bits a channel, as of a brightfield scanner; export it so"
        )
    n_bytes, lock = path.stat().st_size, threading.Lock()
    if not all(is_complete(page, n_bytes=n_bytes) for page in pages):
        raise damaged(path, "is incomplete", reason="its pixels end too early")
    tiled = [TiledPage(path, page=page, lock=lock) for page in pages]
    return TiffReader(path, tiff=tiff, pages=tiled, scale=_scale(tiff))


def _levels(path: Path, tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The images of the pyramid, finest first; below the first, those that cannot be read are left out."""
    if not (tiff.is_ome or tiff.is_qpi):
        first = tiff.pages.first
        reduced = [page for page in list(tiff.pages)[1:] if isinstance(page, tifffile.TiffPage)]
        return [first, *(page for page in reduced if _is_reduced(page, of=first))]
    series = tiff.series[0]
    if len(series.pages) != 1 or set(series.axes) - set("YXS"):
        shape = " x ".join(f"{n} {axis}" for n, axis in zip(series.shape, series.axes, strict=True))
        raise SlideError(
            f"{path}: holds {len(series.pages)} images ({shape}) where one RGB image is expected; channels "
            "of fluorescence and stacks of planes are not read: export one plane as RGB of 8 bits"
        )
    pages = [level.keyframe for level in series.levels]
    return [pages[0], *(page for page in pages[1:] if why_not(page) is None)]


def _is_reduced(page: tifffile.TiffPage, *, of: tifffile.TiffPage) -> bool:
    """Whether a page is a coarser level of another: marked so, stored alike, and of the same shape."""
    if not page.is_reduced or page.is_tiled != of.is_tiled or why_not(page) is not None:
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
    """From the first image of OME-XML: PhysicalSizeX and Y in their units, NominalMagnification."""
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
    """From the XML of a QPTIFF, whose tags hold the same in cm."""
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
    """From XResolution and YResolution, which many programs fill for a screen: see PLAUSIBLE_UM_PER_PX."""
    um = _UM_OF_UNIT_TAG.get(int(page.tags.valueof(296, 2) or 0))
    sizes: list[float | None] = []
    for code in (282, 283):
        numerator, denominator = page.tags.valueof(code, (0, 1))
        sizes.append(um * denominator / numerator if um and numerator and denominator else None)
    return Scale(sizes[0], sizes[1])


@contextmanager
def _silent() -> Iterator[None]:
    """Within, tifffile's complaints about tags go nowhere: what matters is raised."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
