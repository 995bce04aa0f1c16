"""Decode whole pictures: PNG, JPEG, BMP, and plain TIFF that is not read by tiles."""

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from hardmil.budget import MIB
from hardmil.errors import SlideError
from hardmil.slides.resolution import UNKNOWN_SCALE, Scale

PICTURE_BYTES = 1536 * MIB
"""Memory for decoding one picture, which is decoded whole; a larger one must be tiled."""
MAX_PICTURE_PX = PICTURE_BYTES // 8
"""Largest picture, 201 million px: Pillow takes 4 bytes for each, the result 3, and the rest is for the strip
between them."""
MAX_CHANNELS = 4
_PX_OF = {"JPEG2000": PICTURE_BYTES // 16, "progressive": PICTURE_BYTES // 12}
"""The same where decoders keep more: whole numbers of 32 bits, or the coefficients of all passes."""
_STRIP_ROWS = 512

# What the decoders raise on damaged files. Pillow raises SyntaxError for a broken PNG; lookup and arithmetic
# errors come from tags that are missing or invalid.
DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError),
    *(MemoryError, AttributeError, AssertionError),
    *(struct.error, zlib.error),
)
# Pillow's other formats run external programs (EPS) or do not contain pixels.
_FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "TIFF")
_EXPECTED = "expected a slide (SVS, NDPI, MRXS, DICOM, tiled TIFF) or a picture (PNG, JPEG, BMP, TIFF)"
_UM_PER_INCH = 25_400
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_pillow_limit = threading.Lock()


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture; `scale` is what the file states about its resolution."""

    rgb: UInt8[np.ndarray, "height width 3"]
    scale: Scale = UNKNOWN_SCALE
    icc_profile: bytes | None = None


def decode_picture(path: Path) -> Picture:
    """The picture at `path`; for a TIFF with several pages, the first.

    Raises:
        SlideError: If it is not a picture, damaged, too large, or has more than 8 bits per channel.
    """
    try:
        with _any_size(), Image.open(path, formats=_FORMATS) as image:
            most = most_px("progressive" if image.info.get("progressive") else str(image.format))
            _check_size(path, width=image.width, height=image.height, most=most)
            _check_tile(path, image)
            return Picture(_to_rgb(path, image), _scale_of(image), image.info.get("icc_profile"))
    except SlideError:
        raise
    except UnidentifiedImageError as error:
        raise SlideError(
            f"{path}: is not an image in a supported format (it starts with {_first_bytes(path)!r}); "
            f"{_EXPECTED}; check what the file is"
        ) from error
    except DAMAGE as error:
        raise _damaged(path, error) from error


def is_picture(path: Path) -> bool:
    """Whether Pillow knows the format of a file; its pixels may still be damaged."""
    try:
        with _any_size(), Image.open(path, formats=_FORMATS):
            return True
    except DAMAGE:
        return False


def most_px(kind: str) -> int:
    """Largest picture of one of Pillow's formats that is decoded, in px; `progressive` is such a JPEG."""
    return _PX_OF.get(kind, MAX_PICTURE_PX)


def over_white(rgba: UInt8[np.ndarray, "height width 4"]) -> UInt8[np.ndarray, "height width 3"]:
    """RGB of a picture on a white background; alpha is not premultiplied."""
    if (rgba[..., 3] == 255).all():
        return np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


@contextmanager
def _any_size() -> Iterator[None]:
    """Turn off Pillow's size limit in the block; `_check_size` applies `MAX_PICTURE_PX` instead.

    Pillow stores its limit in a global, hence the lock. Its warnings concern tags that are not read here.
    """
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(path: Path, *, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise SlideError(
            f"{path}: is a picture of {width} x {height} px, {width * height:,} px, which is decoded whole; "
            f"expected at most {most:,} px; convert it to a pyramid: vips tiffsave IN OUT.tif --tile "
            "--pyramid --compression jpeg"
        )


def _check_tile(path: Path, image: Image.Image) -> None:
    """Raise SlideError for a TIFF with tiles larger than a picture may be: a whole one is allocated."""
    if not isinstance(image, TiffImageFile):
        return
    width, height = (int(image.tag_v2.get(tag, 0)) for tag in (_TILE_WIDTH, _TILE_LENGTH))
    if width * height > MAX_PICTURE_PX:
        raise SlideError(
            f"{path}: has tiles of {width} x {height} px; expected at most {MAX_PICTURE_PX:,} px; the file "
            "is probably damaged, copy it again"
        )


def _to_rgb(path: Path, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if ";16" in str(getattr(image, "tile", "")) and not image.mode.startswith("I"):
        # Pillow would keep the upper 8 bits: data of 12 bits would be nearly black.
        raise SlideError(
            f"{path}: is a picture with 16 bits per channel; expected 8 bits per channel; convert it"
        )
    match image.mode:
        case "RGB" | "L" | "1" if "transparency" in image.info:
            return _in_strips(image, mode="RGBA")
        case "RGBA" | "LA" | "PA" | "P":
            return _in_strips(image, mode="RGBA")
        case "1" | "L" | "CMYK" | "YCbCr" | "RGB":
            return _in_strips(image, mode="RGB")
        case mode:
            raise SlideError(f"{path}: is a picture of mode {mode}; expected 8 bits per channel; convert it")


def _in_strips(image: Image.Image, *, mode: Literal["RGB", "RGBA"]) -> UInt8[np.ndarray, "height width 3"]:
    """RGB of a picture, on white where it is transparent; only one strip is there in another form too."""
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height)))
        pixels = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        rgb[top : top + len(pixels)] = over_white(pixels) if mode == "RGBA" else pixels
    return rgb


def _scale_of(image: Image.Image) -> Scale:
    """Resolution along x and y; often that of a screen: see `plausible_mpp`."""
    dots_per_inch = [float(value) for value in image.info.get("dpi", ())]
    if len(dots_per_inch) != 2 or min(dots_per_inch) <= 0:
        return UNKNOWN_SCALE
    return Scale(*(_UM_PER_INCH / value for value in dots_per_inch))


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _damaged(path: Path, reason: object) -> SlideError:
    if isinstance(reason, LookupError):
        # Its own message is only the key.
        reason = f"{type(reason).__name__}: {reason}"
    return SlideError(
        f"{path}: cannot be decoded ({reason}); the file is damaged, incomplete, or compressed by an unknown "
        "method; copy it again or convert it"
    )
