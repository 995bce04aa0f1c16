"""Hard negatives as pictures: the patch that fooled the model, and what lies around it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from hardmil.errors import SlideError
from hardmil.geometry import best_level
from hardmil.pictures.drawing import png_bytes, resized
from hardmil.slides.reader import open_slide
from hardmil.slides.slide import Slide

PATCH_EDGE_PX = 128
SURROUNDINGS_EDGE_PX = 256
SURROUNDINGS_PATCHES = 5
"""Width of the surroundings, in patches: enough to tell a gland from a fold."""

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class GalleryItem:
    """One mined instance: where it is, and why it was taken. Fields as in hard_negatives.csv."""

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


@dataclass(frozen=True)
class GalleryPicture:
    """An item with PNGs of the patch and its surroundings; without them, `why_not` says why."""

    item: GalleryItem
    patch: bytes | None
    surroundings: bytes | None
    why_not: str = ""


def gallery_pictures(
    items: Sequence[GalleryItem],
    *,
    paths: Mapping[str, Path | None],
    open_with: Callable[[Path], Slide] = open_slide,
) -> list[GalleryPicture]:
    """Pictures of the items, in their order; each slide is opened once.

    A slide that has no path or cannot be read leaves its items without pictures: the report goes on.

    Args:
        items: What to show.
        paths: The file of each slide_id.
        open_with: Opens a path.
    """
    found: dict[GalleryItem, GalleryPicture] = {}
    for slide_id, group in groupby(sorted(items, key=_slide_id), key=_slide_id):
        found |= _of_slide(list(group), path=paths.get(slide_id), open_with=open_with)
    return [found[item] for item in items]


def draw_item(item: GalleryItem, *, slide: Slide) -> GalleryPicture:
    """The pictures of one item, from its open slide.

    Raises:
        SlideError: If its pixels cannot be read.
    """
    patch = resized(
        slide.read(item.x, item.y, item.size_level0_px, item.size_level0_px), edge_px=PATCH_EDGE_PX
    )
    return GalleryPicture(item, png_bytes(patch), png_bytes(_surroundings(item, slide=slide)))


def _surroundings(item: GalleryItem, *, slide: Slide) -> UInt8[np.ndarray, "row column 3"]:
    """The patch outlined amid its neighbourhood, from the coarsest level that is fine enough."""
    wide = SURROUNDINGS_PATCHES * item.size_level0_px
    margin = (wide - item.size_level0_px) // 2
    downsamples = [level.downsample for level in slide.levels]
    level = best_level(downsamples, wanted=wide / SURROUNDINGS_EDGE_PX)
    read_px = max(round(wide / downsamples[level]), 1)
    image = slide.read(item.x - margin, item.y - margin, read_px, read_px, level)
    image = np.ascontiguousarray(resized(image, edge_px=SURROUNDINGS_EDGE_PX))
    start = round(margin * SURROUNDINGS_EDGE_PX / wide)
    end = round((margin + item.size_level0_px) * SURROUNDINGS_EDGE_PX / wide) - 1
    # Black within white: seen on pale stroma and on dark nuclei alike.
    for grow, colour in enumerate((_BLACK, _BLACK, _WHITE, _WHITE), start=1):
        cv2.rectangle(image, (start - grow, start - grow), (end + grow, end + grow), colour, 1)
    return image


def _of_slide(
    items: list[GalleryItem], *, path: Path | None, open_with: Callable[[Path], Slide]
) -> dict[GalleryItem, GalleryPicture]:
    if path is None:
        return {
            item: GalleryPicture(item, None, None, "the table has no path for this slide") for item in items
        }
    try:
        with open_with(path) as slide:
            return {item: draw_item(item, slide=slide) for item in items}
    except SlideError as error:
        return {item: GalleryPicture(item, None, None, str(error)) for item in items}


def _slide_id(item: GalleryItem) -> str:
    return item.slide_id
