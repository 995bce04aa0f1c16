"""Files of the tissue of a slide: mask (PNG), outline (GeoJSON), picture for the contact sheet (JPEG)."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, PngImagePlugin

from hardmil.files.atomic import write_atomically
from hardmil.files.geojson import write_regions
from hardmil.slides.outlines import outlines
from hardmil.slides.slide import Slide
from hardmil.slides.tissue import TissueMask

PICTURE_PX = 360
"""Longer edge of the picture on a contact sheet."""
OUTLINE_RGB = (0, 114, 178)
PATCH_RGB = (230, 159, 0)
"""Blue and orange of Okabe and Ito 2008, which colour-blind people can distinguish."""


def write_tissue(stem: Path, slide: Slide, tissue: TissueMask, *, picture: bytes) -> None:
    """Write `<stem>.png` (255 tissue, 0 not), `<stem>.geojson` (level-0 px) and `<stem>.jpg`.

    The text fields of the PNG state how many level-0 px one pixel covers.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    about = PngImagePlugin.PngInfo()
    about.add_text("level0_px_per_px", repr(tissue.downsample))
    about.add_text("slide", slide.path.name)
    mask = io.BytesIO()
    Image.fromarray(tissue.is_tissue.view(np.uint8) * np.uint8(255)).save(mask, "PNG", pnginfo=about)
    for suffix, content in ((".png", mask.getvalue()), (".jpg", picture)):
        with write_atomically(stem.with_name(stem.name + suffix)) as draft:
            draft.write_bytes(content)
    regions = outlines(tissue.is_tissue, downsample=tissue.downsample, name="tissue")
    write_regions(stem.with_name(stem.name + ".geojson"), regions)


def draw_tissue(
    slide: Slide, tissue: TissueMask, *, coords: Int[np.ndarray, "patch 2"], size_level0_px: int
) -> bytes:
    """A JPEG of the slide: tissue outlined in blue, patches in orange, the area outside patches paler.

    Raises:
        SlideError: If the slide cannot be read.
    """
    import cv2

    rgb = slide.thumbnail(PICTURE_PX)
    height, width = rgb.shape[:2]
    downsample = slide.width_px / width
    is_patch = _covered(coords / downsample, size_level0_px / downsample, rgb)
    mask = cv2.resize(tissue.is_tissue.view(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
    drawn = np.where(is_patch[..., None], rgb, (rgb.astype(np.uint16) + 2 * 255) // 3).astype(np.uint8)
    for is_inside, colour in ((is_patch, PATCH_RGB), (mask > 0, OUTLINE_RGB)):
        contours, _ = cv2.findContours(is_inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, colour, 1)
    jpeg = io.BytesIO()
    Image.fromarray(drawn).save(jpeg, "JPEG", quality=82)
    return jpeg.getvalue()


def _covered(
    corners: np.ndarray, size: float, rgb: UInt8[np.ndarray, "row column 3"]
) -> Bool[np.ndarray, "row column"]:
    is_patch = np.zeros(rgb.shape[:2], dtype=bool)
    for x, y in corners:
        rows = slice(round(y), max(round(y) + 1, round(y + size)))
        is_patch[rows, round(x) : max(round(x) + 1, round(x + size))] = True
    return is_patch
