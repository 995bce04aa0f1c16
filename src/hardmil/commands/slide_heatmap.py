"""A slide beside its attention, as PNG."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.geojson import regions_beside
from hardmil.geometry import first_known
from hardmil.report.heatmap import SlideAttention, attention_figure
from hardmil.slides.reader import SlideReader, open_slide

THUMBNAIL_PX = 1600


def heatmap_png(
    bag: Bag,
    *,
    path: Path,
    attention: np.ndarray,
    bag_score: float,
    label: str | None,
    mpp: float | None = None,
    fallback_mpp: float | None = None,
) -> bytes:
    """The slide beside its attention; truth outlined where a made-up slide has it beside it.

    `mpp`, from the table, is believed before the file, and `fallback_mpp` where neither says: as for patches.

    Raises:
        SlideError: If the slide cannot be read.
    """
    shown = shown_attention(bag, attention=attention, bag_score=bag_score, label=label, mpp=mpp)
    with open_slide(path) as slide:
        return heatmap_of(slide, shown, fallback_mpp=fallback_mpp)


def heatmap_of(slide: SlideReader, shown: SlideAttention, *, fallback_mpp: float | None = None) -> bytes:
    """The same of an open slide.

    Raises:
        SlideError: If the slide cannot be read.
    """
    thumbnail = slide.thumbnail(THUMBNAIL_PX)
    known = replace(
        shown,
        mpp=first_known(shown.mpp, slide.mpp, fallback_mpp),
        truth=regions_beside(slide.path) or [],
    )
    return attention_figure(known, thumbnail=thumbnail, downsample=slide.width_px / thumbnail.shape[1])


def shown_attention(
    bag: Bag, *, attention: np.ndarray, bag_score: float, label: str | None, mpp: float | None = None
) -> SlideAttention:
    """What a model said of a bag, to be drawn; `mpp` as the table says it."""
    return SlideAttention(
        slide_id=bag.slide_id,
        label=label,
        bag_score=bag_score,
        coords=bag.coords,
        size_level0_px=bag.size_level0_px,
        attention=attention,
        mpp=mpp,
    )
