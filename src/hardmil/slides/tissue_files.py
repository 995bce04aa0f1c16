"""Files of the tissue of a slide: mask (PNG), outline (GeoJSON), picture for the contact sheet (JPEG)."""

import io
import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, PngImagePlugin

from hardmil.files.atomic import write_atomically
from hardmil.files.geojson import write_regions
from hardmil.geometry import Frame
from hardmil.slides.outlines import outlines
from hardmil.slides.slide import Slide, picture_of_bounds
from hardmil.slides.tissue import TissueMask

PICTURE_PX = 360
"""Longer edge of the picture on a contact sheet."""
OUTLINE_RGB = (0, 114, 178)
PATCH_RGB = (230, 159, 0)
"""Blue and orange of Okabe and Ito 2008, which colour-blind people can distinguish."""


def write_tissue(stem: Path, slide: Slide, tissue: TissueMask, *, picture: bytes) -> None:
    """Write `<stem>.png` (255 tissue, 0 not), `<stem>.geojson` (in QuPath's coordinates) and `<stem>.jpg`.

    The text fields of the PNG state how many level-0 px one pixel covers: `level0_px_per_px` along x,
    `level0_px_per_px_y` along y.

    Raises:
        StoreError: If the disk is full, or the folder is not writable.
    """
    about = PngImagePlugin.PngInfo()
    about.add_text("level0_px_per_px", repr(tissue.downsample.x))
    about.add_text("level0_px_per_px_y", repr(tissue.downsample.y))
    about.add_text("slide", slide.path.name)
    mask = io.BytesIO()
    Image.fromarray(tissue.is_tissue.view(np.uint8) * np.uint8(255)).save(mask, "PNG", pnginfo=about)
    for suffix, content in ((".png", mask.getvalue()), (".jpg", picture)):
        with write_atomically(stem.with_name(stem.name + suffix)) as draft:
            draft.write_bytes(content)
    regions = outlines(tissue.is_tissue, downsample=tissue.downsample, name="tissue")
    write_regions(stem.with_name(stem.name + ".geojson"), regions, origin=slide.origin)


def draw_tissue(
    slide: Slide, tissue: TissueMask, *, coords: Int[np.ndarray, "patch 2"], size_level0_px: int
) -> bytes:
    """A JPEG of the scanned area: tissue outlined in blue, patches in orange, the area outside patches paler.

    Raises:
        SlideError: If the slide cannot be read.
    """
    import cv2

    rgb, frame = picture_of_bounds(slide, max_edge_px=PICTURE_PX)
    is_patch = _covered(coords, size_level0_px=size_level0_px, frame=frame, shape=rgb.shape[:2])
    mask = _mask_of_bounds(slide, tissue, shape=rgb.shape[:2])
    drawn = np.where(is_patch[..., None], rgb, (rgb.astype(np.uint16) + 2 * 255) // 3).astype(np.uint8)
    for is_inside, colour in ((is_patch, PATCH_RGB), (mask > 0, OUTLINE_RGB)):
        contours, _ = cv2.findContours(is_inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, colour, 1)
    jpeg = io.BytesIO()
    Image.fromarray(drawn).save(jpeg, "JPEG", quality=82)
    return jpeg.getvalue()


def _mask_of_bounds(
    slide: Slide, tissue: TissueMask, *, shape: tuple[int, int]
) -> UInt8[np.ndarray, "row column"]:
    """The tissue in the scanned area, as a picture of this shape; above 0 where a pixel has tissue."""
    import cv2

    area, (per_x, per_y) = slide.bounds, tissue.downsample
    left, top = int(area.x / per_x), int(area.y / per_y)
    right, bottom = math.ceil((area.x + area.width) / per_x), math.ceil((area.y + area.height) / per_y)
    part = np.ascontiguousarray(tissue.is_tissue[top:bottom, left:right]).view(np.uint8)
    return np.asarray(cv2.resize(part, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _covered(
    coords: Int[np.ndarray, "patch 2"], *, size_level0_px: int, frame: Frame, shape: tuple[int, int]
) -> Bool[np.ndarray, "row column"]:
    """Which pixels of a picture belong to a patch."""
    is_patch = np.zeros(shape, dtype=bool)
    for left, top, right, bottom in frame.squares_px(coords, size_level0_px=size_level0_px).tolist():
        is_patch[top:bottom, left:right] = True
    return is_patch
