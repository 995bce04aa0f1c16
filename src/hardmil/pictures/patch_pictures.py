"""Pictures of hard negatives: the patch that misled the model, and its surroundings."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from hardmil.pictures.drawing import png_bytes, resized
from hardmil.slides.slide import Slide

PATCH_EDGE_PX = 128
SURROUNDINGS_EDGE_PX = 256
SURROUNDINGS_PATCHES = 5
"""Width of the surroundings, in patches: enough to distinguish a gland from a fold."""

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class GalleryItem:
    """One mined instance: where it is, and why it was mined. Fields as in hard_negatives.csv."""

    slide_id: str
    x: int
    y: int
    size_level0_px: int
    attention: float
    bag_score: float
    cluster: int
    round: int
    source: str
    arm: str
    hard_for: str = ""


@dataclass(frozen=True)
class GalleryPicture:
    """An item with PNGs of its patch and surroundings; if they are None, `why_not` gives the reason."""

    item: GalleryItem
    patch: bytes | None
    surroundings: bytes | None
    why_not: str = ""


def draw_item(item: GalleryItem, *, slide: Slide) -> GalleryPicture:
    """The pictures of one item, read from its open slide.

    Raises:
        SlideError: If its pixels cannot be read.
    """
    patch = resized(
        slide.read(item.x, item.y, item.size_level0_px, item.size_level0_px), edge_px=PATCH_EDGE_PX
    )
    return GalleryPicture(item, png_bytes(patch), png_bytes(_surroundings(item, slide=slide)))


def _surroundings(item: GalleryItem, *, slide: Slide) -> UInt8[np.ndarray, "row column 3"]:
    """The patch, outlined, in the middle of its surroundings; from the coarsest level that is fine enough."""
    wide = SURROUNDINGS_PATCHES * item.size_level0_px
    margin = (wide - item.size_level0_px) // 2
    level = slide.level_for(wide / SURROUNDINGS_EDGE_PX)
    width, height = (max(round(wide / factor), 1) for factor in slide.levels[level].downsample)
    image = slide.read(item.x - margin, item.y - margin, width, height, level)
    image = np.ascontiguousarray(resized(image, edge_px=SURROUNDINGS_EDGE_PX))
    start = round(margin * SURROUNDINGS_EDGE_PX / wide)
    end = round((margin + item.size_level0_px) * SURROUNDINGS_EDGE_PX / wide) - 1
    # Black inside white: visible both on pale stroma and on dark nuclei.
    for grow, colour in enumerate((_BLACK, _BLACK, _WHITE, _WHITE), start=1):
        cv2.rectangle(image, (start - grow, start - grow), (end + grow, end + grow), colour, 1)
    return image
