"""The tiles and strips of a TIFF, decoded one by one, 5 to 8 times as fast as in OpenSlide.

A strip is a tile as wide as the image. An image is decoded whole only if the file stores it as one tile.
"""

import math
import threading
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Int64, UInt8

from hardmil.errors import SlideError
from hardmil.slides.frame_size import too_large_frame
from hardmil.slides.level_source import damaged
from hardmil.slides.pictures import DAMAGE, MAX_PICTURE_PX, over_white

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_CONTIGUOUS = 1
# Uncompressed, LZW, JPEG, deflate, PackBits, JPEG 2000, LZMA, zstd, WebP and PNG, with the old codes of some.
# Of others, such as JPEG XL and LERC, the size of a frame is not known before it is decoded.
_COMPRESSIONS = {
    *(1, 5, 6, 7, 33007, 8, 32946, 50013, 32773, 33003, 33004, 33005, 34712),
    *(34925, 34926, 50000, 34927, 50001, 34933),
}
LARGE_TILE_PX = 2048 * 2048
"""A larger tile is kept until another one is read: a thumbnail reads many strips of it."""
MAX_PAGES = 10_000
"""Most images of a file that are looked at; slides have fewer than twenty."""
_UNSPECIFIED, _PREMULTIPLIED = 0, 1


class TiledPage:
    """One image of an open TIFF, read as RGB tile by tile; safe to use from several threads.

    Only for pages for which `unsupported` gives None.

    Args:
        path: The file, named in errors.
        page: The image.
        lock: Held while the file is read; shared by all pages of the file.
    """

    def __init__(self, path: Path, *, page: tifffile.TiffPage, lock: threading.Lock) -> None:
        self.path = path
        self.width_px, self.height_px = page.imagewidth, page.imagelength
        self.tile_px = _tile_px(page)
        self._page, self._lock = page, lock
        self._starts, self._counts = _tile_bytes(page)
        _drop_tile_bytes(page)
        self._n_rows, self._n_columns, self._n_planes = _tile_grid(page)
        self._jpeg_tables = page.jpegtables
        self._is_large = math.prod(self.tile_px) > LARGE_TILE_PX
        self._large, self._last = threading.Lock(), (-1, -1, np.zeros((0, 0, 3), np.uint8))

    def read(self, x: int, y: int, width: int, height: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
        """RGB of a rectangle in px of this image; white outside.

        Raises:
            SlideError: If a tile of it is damaged.
        """
        left, right = max(x, 0), min(x + width, self.width_px)
        top, bottom = max(y, 0), min(y + height, self.height_px)
        is_inside = (left, right, top, bottom) == (x, x + width, y, y + height)
        is_tile = (width, height) == self.tile_px and x % width == y % height == 0
        if is_inside and is_tile and not self._is_large:
            return self._tile(y // height, x // width)
        shape = (height, width, 3)
        region = np.empty(shape, np.uint8) if is_inside else np.full(shape, 255, np.uint8)
        if left >= right or top >= bottom:
            return region
        tile_width, tile_height = self.tile_px
        for row in range(top // tile_height, -(-bottom // tile_height)):
            for column in range(left // tile_width, -(-right // tile_width)):
                tile = self._tile(row, column)
                x0, y0 = column * tile_width, row * tile_height
                x1, y1 = min(right, x0 + tile.shape[1]), min(bottom, y0 + tile.shape[0])
                xs, ys = max(left, x0), max(top, y0)
                region[ys - y : y1 - y, xs - x : x1 - x] = tile[ys - y0 : y1 - y0, xs - x0 : x1 - x0]
        return region

    def _tile(self, row: int, column: int) -> UInt8[np.ndarray, "tile_height tile_width 3"]:
        if not self._is_large:
            return self._read_tile(row, column)
        with self._large:
            if self._last[:2] != (row, column):
                self._last = (-1, -1, self._last[2][:0])
                self._last = (row, column, self._read_tile(row, column))
            return self._last[2]

    def _read_tile(self, row: int, column: int) -> UInt8[np.ndarray, "tile_height tile_width 3"]:
        first, step = row * self._n_columns + column, self._n_rows * self._n_columns
        planes = range(first, first + self._n_planes * step, step)
        if not self._counts[planes].any():
            # The writer left out a tile of background.
            return np.full((self.tile_px[1], self.tile_px[0], 3), 255, np.uint8)
        pieces = [self._decoded(plane) for plane in planes]
        piece = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=2)
        height = min(self.tile_px[1], self.height_px - row * self.tile_px[1])
        width = min(self.tile_px[0], self.width_px - column * self.tile_px[0])
        if piece.shape[0] < height or piece.shape[1] < width:
            raise damaged(
                self.path,
                f"cannot be read at tile {column}, {row}",
                reason=f"{piece.shape[1]} x {piece.shape[0]} px, expected {width} x {height}",
            )
        match piece.shape[2]:
            case 1:
                grey = 255 - piece if self._page.photometric == _WHITE_IS_ZERO else piece
                return np.repeat(grey, 3, axis=2)
            case 4:
                return _without_fourth(piece, kind=self._page.extrasamples[0])
            case _:
                return piece

    def _decoded(self, index: int) -> UInt8[np.ndarray, "tile_height tile_width sample"]:
        offset, n_bytes = int(self._starts[index]), int(self._counts[index])
        try:
            handle = self._page.parent.filehandle
            with self._lock:
                handle.seek(offset)
                data = handle.read(n_bytes)
            if len(data) != n_bytes or n_bytes == 0:
                raise damaged(
                    self.path,
                    f"cannot be read at tile {index}",
                    reason=f"{len(data)} bytes, expected {max(n_bytes, 1)}",
                )
            reason = too_large_frame(data)
            if reason is not None:
                raise damaged(self.path, f"cannot be read at tile {index}", reason=reason)
            piece, _, _ = self._page.decode(data, index, jpegtables=self._jpeg_tables)
        except SlideError:
            raise
        except DAMAGE as error:
            raise damaged(self.path, f"cannot be read at tile {index}", reason=error) from error
        if piece is None:
            raise damaged(self.path, f"cannot be read at tile {index}", reason="it holds no pixels")
        return np.asarray(piece[0])


def _without_fourth(
    rgba: UInt8[np.ndarray, "height width 4"], *, kind: int
) -> UInt8[np.ndarray, "height width 3"]:
    """RGB on white; `kind` is what the file says about the fourth channel, which may be other than alpha."""
    if kind == _UNSPECIFIED:
        return np.ascontiguousarray(rgba[..., :3])
    if kind == _PREMULTIPLIED:
        light = rgba[..., :3].astype(np.uint16) + (255 - rgba[..., 3:])
        return np.minimum(light, 255).astype(np.uint8)
    return over_white(rgba)


def unsupported(page: tifffile.TiffPage) -> str | None:
    """Why a page cannot be read tile by tile as RGB, for a message; None if it can."""
    sizes = (page.imagewidth, page.imagelength, *_tile_px(page))
    if not all(isinstance(edge, int) and edge > 0 for edge in sizes):
        return f"states sizes of {sizes} px"
    if page.dtype != np.uint8 or page.bitspersample != 8:
        return f"holds {page.dtype or 'unknown'} pixels ({page.bitspersample} bits a channel)"
    if page.compression not in _COMPRESSIONS or page.compression not in tifffile.TIFF.DECOMPRESSORS:
        return f"uses an unsupported compression ({page.compression})"
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
        return f"has an unsupported photometric interpretation ({page.photometric})"
    n_samples = 1 if page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 3
    n_found, n_extra = page.samplesperpixel, len(page.extrasamples)
    if n_found not in (n_samples, 4 if n_samples == 3 and n_extra else n_samples):
        return f"has {n_found} channels"
    if page.imagedepth != 1 or not len(page.dataoffsets):
        return "is not a two-dimensional image"
    width, height = _tile_px(page)
    if width * min(height, page.imagelength) > MAX_PICTURE_PX:
        return (
            f"has tiles of {width} x {height} px, {width * min(height, page.imagelength):,} px, more than "
            f"the {MAX_PICTURE_PX:,} px that are decoded at once"
        )
    return None


def images_of(tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The images of a file.

    Raises:
        ValueError: If there are more than `MAX_PAGES`, or the size of one is not a number.
    """
    if len(tiff.pages) > MAX_PAGES:
        raise ValueError(f"it has {len(tiff.pages):,} images, more than {MAX_PAGES:,}")
    pages = [page for page in list(tiff.pages) if isinstance(page, tifffile.TiffPage)]
    for page in pages:
        if not isinstance(page.imagewidth, int) or not isinstance(page.imagelength, int):
            raise ValueError(f"the size of image {page.index} is not a number")
    return pages


def is_complete(page: tifffile.TiffPage, *, n_bytes: int, may_be_sparse: bool = False) -> bool:
    """Whether all tiles of a page are within the file and none is empty.

    With `may_be_sparse`, tiles of a tiled page may be empty, but not all: writers leave out background.
    """
    starts, counts = _tile_bytes(page)
    n_expected = math.prod(_tile_grid(page))
    if len(starts) != n_expected or len(counts) != n_expected:
        return False
    is_there = counts > 0
    if may_be_sparse and page.is_tiled and is_there.any():
        starts, counts = starts[is_there], counts[is_there]
    return bool((counts > 0).all() and (starts > 0).all() and (starts + counts <= n_bytes).all())


def _tile_px(page: tifffile.TiffPage) -> tuple[int, int]:
    """Width and height of a tile or strip."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip, page.imagelength)


def _tile_grid(page: tifffile.TiffPage) -> tuple[int, int, int]:
    """Number of rows and columns of tiles, and of planes, each with its own tiles."""
    width, height = _tile_px(page)
    n_planes = 1 if page.planarconfig == _CONTIGUOUS else page.samplesperpixel
    return -(-page.imagelength // height), -(-page.imagewidth // width), n_planes


def _tile_bytes(page: tifffile.TiffPage) -> tuple[Int64[np.ndarray, " tile"], Int64[np.ndarray, " tile"]]:
    """Offset of each tile in the file, and its size in bytes."""
    return np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)


def _drop_tile_bytes(page: tifffile.TiffPage) -> None:
    """Remove offsets and sizes from the page: as Python integers, those of a large slide take megabytes."""
    page.dataoffsets = page.databytecounts = ()
    for code in (273, 279, 324, 325):
        if code in page.tags:
            del page.tags[code]
