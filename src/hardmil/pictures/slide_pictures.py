"""Small pictures of one slide: thumbnail, attention, and the patches with the most attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from hardmil.pictures.drawing import resized, webp_bytes
from hardmil.pictures.heatmap import SlideAttention, attention_overlay
from hardmil.slides.slide import Slide, check_patches_inside, picture_of_bounds

THUMBNAIL_EDGE_PX = 360
KEY_PATCHES = 4
KEY_PATCH_EDGE_PX = 96


@dataclass(frozen=True)
class KeyPatch:
    """A patch with much attention: its corner in level-0 px, its share of the attention, its picture."""

    x: int
    y: int
    attention: float
    picture: bytes


@dataclass(frozen=True)
class SlidePictures:
    """WebP of a slide and of its attention, `width` x `height` px; `key_patches`, most attention first."""

    thumbnail: bytes
    overlay: bytes
    width: int
    height: int
    key_patches: Sequence[KeyPatch]

    @property
    def n_bytes(self) -> int:
        """Size of all pictures in bytes."""
        patches = sum(len(patch.picture) for patch in self.key_patches)
        return len(self.thumbnail) + len(self.overlay) + patches


def slide_pictures(slide: Slide, attention: SlideAttention) -> SlidePictures:
    """The small pictures of an open slide; each region is read once.

    Raises:
        SlideError: If its pixels cannot be read, or a patch is outside it.
    """
    check_patches_inside(slide, attention.coords)
    thumbnail, frame = picture_of_bounds(slide, max_edge_px=THUMBNAIL_EDGE_PX)
    overlay = attention_overlay(
        thumbnail,
        coords=attention.coords,
        size_level0_px=attention.size_level0_px,
        attention=attention.attention,
        frame=frame,
    )
    hottest = np.argsort(-attention.attention, kind="stable")[:KEY_PATCHES]
    return SlidePictures(
        thumbnail=webp_bytes(thumbnail),
        overlay=webp_bytes(overlay),
        width=thumbnail.shape[1],
        height=thumbnail.shape[0],
        key_patches=[_key_patch(slide, attention, index=int(i)) for i in hottest],
    )


def _key_patch(slide: Slide, attention: SlideAttention, *, index: int) -> KeyPatch:
    x, y = attention.coords[index].tolist()
    size = attention.size_level0_px
    return KeyPatch(x, y, float(attention.attention[index]), webp_bytes(_small(slide.read(x, y, size, size))))


def _small(patch: UInt8[np.ndarray, "row column 3"]) -> UInt8[np.ndarray, "edge edge 3"]:
    return resized(patch, edge_px=KEY_PATCH_EDGE_PX)
