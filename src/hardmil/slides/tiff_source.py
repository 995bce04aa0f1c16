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
from hardmil.geometry import SAME_SCALE, Downsample
from hardmil.slides.level_source import Level, damaged
from hardmil.slides.picture_source import PictureSource
from hardmil.slides.pictures import DAMAGE, decode_picture, is_picture
from hardmil.slides.resolution import Scale, positive
from hardmil.slides.tiff_tiles import TiledPage, images_of, is_complete, unsupported

_UM_OF = {
    **{"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6},
    **{"Å": 1e-4, "in": 25_400.0, "inch": 25_400.0, "micron": 1.0, "microns": 1.0},
}
_UM_OF_UNIT_TAG = {2: 25_400.0, 3: 10_000.0}
_ICC_TAG = 34675


class TiffSource:
    """The `LevelSource` of a TIFF with one or more levels, each an 8-bit RGB or grey image."""

    def __init__(
        self,
        tiff: tifffile.TiffFile,
        *,
        pages: list[TiledPage],
        scale: Scale,
        icc_profile: bytes | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        first = pages[0]
        self.levels = tuple(
            Level(
                page.width_px,
                page.height_px,
                Downsample.between((first.width_px, first.height_px), (page.width_px, page.height_px)),
                page.tile_px,
            )
            for page in pages
        )
        self.scale = scale
        self.icc_profile = icc_profile
        self.bounds = None
        self.notes = notes
        self._tiff, self._pages = tiff, pages

    def read_level(
        self, level: int, *, x: int, y: int, width: int, height: int
    ) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle: x, y in level-0 px, width, height in px of the level; white outside.

        Raises:
            SlideError: If the file is damaged there.
        """
        downsample = self.levels[level].downsample
        return self._pages[level].read(round(x / downsample.x), round(y / downsample.y), width, height)

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


def is_misread_by_openslide(path: Path) -> bool:
    """Whether OpenSlide reads the wrong image or colours of a plain tiled TIFF; False if it cannot be read.

    OpenSlide takes the first image, and those marked as reduced; it takes any fourth channel for alpha that
    is multiplied already, and returns colours beyond white as dark ones.
    """
    try:
        with _silent(), tifffile.TiffFile(path) as tiff:
            pages = images_of(tiff)
            finest = _finest(pages)
            has_fourth = finest.samplesperpixel == 4 and len(finest.extrasamples) == 1
            return finest is not pages[0] or len(_equals(finest, pages)) > 1 or has_fourth
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
    is_first = pages[0].index == tiff.pages.first.index
    is_plain = len(pages) == 1 and is_first and not (tiff.is_ome or tiff.is_qpi)
    if reason is not None and is_plain and is_picture(path):
        tiff.close()
        return PictureSource(decode_picture(path))
    if reason is not None:
        raise SlideError(
            f"{path}: {reason}; expected 8-bit RGB, as from a brightfield scanner; export it as 8-bit RGB, "
            "compressed as JPEG"
        )
    n_bytes, lock = path.stat().st_size, threading.Lock()
    if not all(is_complete(page, n_bytes=n_bytes, may_be_sparse=True) for page in pages):
        raise damaged(path, "is incomplete", reason="its pixels end too early")
    tiled = [TiledPage(path, page=page, lock=lock) for page in pages]
    return TiffSource(
        tiff,
        pages=tiled,
        scale=_scale(tiff, pages[0]),
        icc_profile=pages[0].tags.valueof(_ICC_TAG),
        notes=() if is_first else (_choice_note(tiff, pages[0]),),
    )


def _choice_note(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> str:
    """What to tell the user where the first image of a file is not the one that is read."""
    first = tiff.pages.first
    return (
        f"it holds several images; the largest is used, of {page.imagewidth} x {page.imagelength} px, not "
        f"the first, of {first.imagewidth} x {first.imagelength} px"
    )


def _levels(path: Path, tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The levels of the largest image, finest first; coarser ones that cannot be read are left out.

    The first image of a file may be a macro picture or a label.
    """
    if not (tiff.is_ome or tiff.is_qpi):
        pages = images_of(tiff)
        finest = _finest(pages)
        if len(same := _equals(finest, pages)) > 1:
            raise SlideError(
                f"{path}: holds {len(same)} images of {finest.imagewidth} x {finest.imagelength} px; "
                "expected one; they may be channels, planes of a stack or several fields: export each field "
                "as an RGB image of its own"
            )
        reduced = [page for page in pages if _is_reduced(page, of=finest)]
        return [finest, *sorted(reduced, key=lambda page: -page.imagewidth)]
    series = max(tiff.series, key=lambda one: one.keyframe.imagewidth * one.keyframe.imagelength)
    if len(series.pages) != 1 or set(series.axes) - set("YXS"):
        shape = " x ".join(f"{n} {axis}" for n, axis in zip(series.shape, series.axes, strict=True))
        raise SlideError(
            f"{path}: holds {len(series.pages)} images ({shape}); expected one RGB image; fluorescence "
            "channels and z-stacks are not supported: export one plane as 8-bit RGB"
        )
    pages = [level.keyframe for level in series.levels]
    return [pages[0], *(page for page in pages[1:] if unsupported(page) is None)]


def _finest(pages: list[tifffile.TiffPage]) -> tifffile.TiffPage:
    return max(pages, key=lambda page: page.imagewidth * page.imagelength)


def _equals(finest: tifffile.TiffPage, pages: list[tifffile.TiffPage]) -> list[tifffile.TiffPage]:
    """The images of the same size that are neither levels nor masks of another."""
    size = finest.imagewidth, finest.imagelength
    return [
        page
        for page in pages
        if (page.imagewidth, page.imagelength) == size and not page.is_reduced and not page.is_mask
    ]


def _is_reduced(page: tifffile.TiffPage, *, of: tifffile.TiffPage) -> bool:
    """Whether a page is a coarser level of another: marked as reduced, same layout, same aspect ratio."""
    if not page.is_reduced or page.is_tiled != of.is_tiled or unsupported(page) is not None:
        return False
    ratios = of.imagewidth / page.imagewidth, of.imagelength / page.imagelength
    return min(ratios) > 1 and max(ratios) < min(ratios) * SAME_SCALE


def _scale(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Scale:
    """What the file states about the resolution of one of its images."""
    if tiff.is_ome:
        found = _ome_scale(tiff.ome_metadata or "", size_px=(page.imagewidth, page.imagelength))
        return found if found.mpp_x is not None else _tag_scale(page)
    if tiff.is_qpi:
        return _qptiff_scale(page)
    unit = str((tiff.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
    return _tag_scale(page, um=_UM_OF.get(unit))


def _ome_scale(xml: str, *, size_px: tuple[int, int]) -> Scale:
    """Scale of the image of this width and height: PhysicalSizeX and Y with units, NominalMagnification.

    The first image, where none has this size.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return Scale()
    images = _named(root, "Image")
    fits = [image for image in images if any(_size_px(one) == size_px for one in _named(image, "Pixels"))]
    image = (fits or images or [root])[0]
    pixels = next(iter(_named(image, "Pixels")), None)
    sizes = [_physical_size(pixels, axis) if pixels is not None else None for axis in "XY"]
    return Scale(sizes[0], sizes[1], _objective_power(root, image))


def _named(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """The elements of this name, in the order of the file, whatever their namespace."""
    return [node for node in root.iter() if node.tag.rpartition("}")[2] == name]


def _size_px(pixels: ElementTree.Element) -> tuple[int, int] | None:
    try:
        return int(pixels.get("SizeX", "")), int(pixels.get("SizeY", ""))
    except ValueError:
        return None


def _objective_power(root: ElementTree.Element, image: ElementTree.Element) -> float | None:
    """The magnification of the objective that the image names, or of the only one in the file."""
    objectives = _named(root, "Objective")
    used = {node.get("ID") for node in _named(image, "ObjectiveSettings")}
    found = [one for one in objectives if one.get("ID") in used] or objectives
    return positive(found[0].get("NominalMagnification")) if len(found) == 1 else None


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


def _tag_scale(page: tifffile.TiffPage, *, um: float | None = None) -> Scale:
    """Scale from XResolution and YResolution; often a screen resolution: see `plausible_mpp`.

    `um` is the length of their unit, where ImageJ states it; None: that of the tag.
    """
    um = um or _UM_OF_UNIT_TAG.get(int(page.tags.valueof(296, 2) or 0))
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
