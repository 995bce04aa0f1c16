"""All pictures that the server shows: patches, their surroundings, thumbnails, tiles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardmil.geometry import Rectangle
from hardmil.pictures.drawing import length_text, scale_bar_um
from hardmil.review.byte_cache import ByteCache
from hardmil.review.open_slides import OpenSlide, OpenSlides
from hardmil.review.tiles import Pyramid, jpeg_bytes, read_area

PATCH_PX = 640
SURROUNDINGS_PX = 480
SURROUNDINGS_PATCHES = 4
"""Width of the surroundings, in patches."""
SMALL_PX = 192
"""Edge of a patch in a grid."""
THUMBNAIL_PX = 280


@dataclass(frozen=True)
class ScaleBar:
    """Length of a scale bar as a share of the width of its picture, and in words."""

    share: float
    text: str


@dataclass(frozen=True)
class PatchPlace:
    """Where a patch is on the thumbnail (shares of its width and height), and the scale bars of its pictures.

    The bars are None where the resolution is unknown.
    """

    left: float
    top: float
    width: float
    height: float
    patch_bar: ScaleBar | None
    surroundings_bar: ScaleBar | None


class SlidePictures:
    """Pictures of slides by the number of the slide, as JPEG; encoded ones stay in memory, within a limit."""

    def __init__(self, paths: Sequence[Path | None]) -> None:
        self._slides = OpenSlides(paths)
        self._cache = ByteCache()

    def pyramid(self, number: int) -> Pyramid:
        """The scales of a slide.

        Raises:
            SlideError: If the slide cannot be opened.
        """
        with self._slides.use(number) as one:
            return Pyramid(one.slide.width_px, one.slide.height_px)

    def mpp(self, number: int) -> float | None:
        """Micrometres per level-0 px as the file states it.

        Raises:
            SlideError: If the slide cannot be opened.
        """
        with self._slides.use(number) as one:
            return one.slide.mpp

    def tile(self, number: int, *, level: int, column: int, row: int) -> bytes | None:
        """A tile; None if there is no such tile.

        Raises:
            SlideError: If its pixels cannot be read.
        """

        def draw(one: OpenSlide) -> bytes:
            pyramid = Pyramid(one.slide.width_px, one.slide.height_px)
            if not pyramid.has(level, column=column, row=row):
                return b""
            area, size = pyramid.area(level, column=column, row=row)
            return _picture(one, area, size=size)

        return self._drawn(number, ("tile", level, column, row), draw=draw) or None

    def patch(self, number: int, *, square: Rectangle, edge_px: int = PATCH_PX) -> bytes:
        """A patch, enlarged or reduced to this edge.

        Raises:
            SlideError: If its pixels cannot be read.
        """
        size = edge_px, edge_px
        return self._drawn(number, (square, edge_px), draw=lambda one: _picture(one, square, size=size))

    def surroundings(self, number: int, *, square: Rectangle) -> bytes:
        """The field around a patch, four times as wide, the patch in its middle; white outside the slide.

        Raises:
            SlideError: If its pixels cannot be read.
        """
        return self.patch(number, square=_around(square), edge_px=SURROUNDINGS_PX)

    def thumbnail(self, number: int) -> bytes:
        """The whole slide.

        Raises:
            SlideError: If its pixels cannot be read.
        """

        def draw(one: OpenSlide) -> bytes:
            return jpeg_bytes(one.to_screen(one.slide.thumbnail(THUMBNAIL_PX)))

        return self._drawn(number, ("thumbnail",), draw=draw)

    def place(self, number: int, *, square: Rectangle, mpp: float | None) -> PatchPlace:
        """Where a patch is on its slide, and the scale bars of its pictures.

        Raises:
            SlideError: If the slide cannot be opened.
        """
        with self._slides.use(number) as one:
            width, height, mpp = one.slide.width_px, one.slide.height_px, mpp or one.slide.mpp
        return PatchPlace(
            left=square.x / width,
            top=square.y / height,
            width=square.width / width,
            height=square.height / height,
            patch_bar=_scale_bar(square.width, mpp=mpp),
            surroundings_bar=_scale_bar(_around(square).width, mpp=mpp),
        )

    def close(self) -> None:
        """Close the slides."""
        self._slides.close()

    def _drawn(self, number: int, what: tuple[object, ...], *, draw: Callable[[OpenSlide], bytes]) -> bytes:
        def make() -> bytes:
            with self._slides.use(number) as one:
                return draw(one)

        return self._cache.get((number, self._slides.stamp(number), *what), make=make)


def _picture(one: OpenSlide, area: Rectangle, *, size: tuple[int, int]) -> bytes:
    return jpeg_bytes(one.to_screen(read_area(one.slide, area, size_px=size)))


def _around(square: Rectangle) -> Rectangle:
    wide = SURROUNDINGS_PATCHES * square.width
    margin = (wide - square.width) // 2
    return Rectangle(square.x - margin, square.y - margin, wide, wide)


def _scale_bar(width_px: int, *, mpp: float | None) -> ScaleBar | None:
    if mpp is None:
        return None
    um = scale_bar_um(width_px * mpp)
    return ScaleBar(um / (width_px * mpp), length_text(um))
