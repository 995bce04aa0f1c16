"""The heat map of a bag on its slide, as PNG and as OME-TIFF."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.files.geojson import regions_next_to
from hardmil.pictures.heatmap import HeatmapQuantity, Scale, SlideAttention, attention_figure
from hardmil.pictures.heatmap_tiff import write_heatmap_tiff
from hardmil.slides.resolution import find_resolution
from hardmil.slides.slide import Slide, check_patches_inside, picture_of_bounds

THUMBNAIL_PX = 1600


def draw_heatmap(
    slide: Slide,
    attention: SlideAttention,
    *,
    quantity: HeatmapQuantity = "attention",
    scale: Scale = "rank",
    fallback_mpp: float | None = None,
) -> bytes:
    """PNG of the scanned area of the slide, without and with its heat map.

    Known regions, as of a synthetic slide, are outlined. The mpp is that of the table, else of the file, else
    `fallback_mpp`, as for patches.

    Raises:
        SlideError: If the slide cannot be read, or a patch is outside it.
        ConfigError: If contributions are asked for, but the pooling of the model has none.
    """
    thumbnail, frame = picture_of_bounds(slide, max_edge_px=THUMBNAIL_PX)
    truth = regions_next_to(slide.path, origin=slide.origin)
    known = replace(_on_slide(slide, attention, fallback_mpp), truth=truth or [])
    return attention_figure(known, thumbnail=thumbnail, frame=frame, quantity=quantity, scale=scale)


def write_bag_heatmap_tiff(
    path: Path,
    slide: Slide,
    attention: SlideAttention,
    *,
    quantity: HeatmapQuantity = "attention",
    scale: Scale = "rank",
    fallback_mpp: float | None = None,
) -> None:
    """Write the heat map alone, as a pyramid with the extent of the scanned area.

    Raises:
        SlideError: If a patch is outside the slide.
        ConfigError: If contributions are asked for, but the pooling of the model has none.
        StoreError: If the disk is full, or the folder is not writable.
    """
    known = _on_slide(slide, attention, fallback_mpp)
    write_heatmap_tiff(path, known, bounds=slide.bounds, quantity=quantity, scale=scale)


def _on_slide(slide: Slide, attention: SlideAttention, fallback_mpp: float | None) -> SlideAttention:
    check_patches_inside(slide, attention.coords)
    return replace(
        attention, mpp=find_resolution(slide.scale, table=attention.mpp, fallback=fallback_mpp).mpp
    )


def slide_attention(
    bag: Bag,
    *,
    attention: np.ndarray,
    bag_score: float,
    label: str | None,
    mpp: float | None = None,
    contribution: np.ndarray | None = None,
    classes: tuple[str, str] = ("negative", "positive"),
    shown_class: str = "",
) -> SlideAttention:
    """The output of a model for a bag, ready to be drawn; `mpp` is that of the table."""
    return SlideAttention(
        slide_id=bag.slide_id,
        label=label,
        bag_score=bag_score,
        coords=bag.coords,
        size_level0_px=bag.size_level0_px,
        attention=attention,
        mpp=mpp,
        contribution=contribution,
        classes=classes,
        shown_class=shown_class,
    )
