"""A heat map as a pyramidal OME-TIFF with the same extent in micrometres as its slide."""

import math
from pathlib import Path

import cv2
import numpy as np
import tifffile
from jaxtyping import UInt8

from hardmil.files.atomic import write_atomically
from hardmil.geometry import Downsample, Frame, Rectangle
from hardmil.pictures.heatmap import (
    HeatmapQuantity,
    Scale,
    SlideAttention,
    colour_map,
    painted_patches,
    shades_of,
)

LONGEST_PX = 8192
"""Maximum edge of the picture, for a slide of any size."""
PATCH_PX = 8
"""Width of a patch in the picture, unless the picture would be too large."""
SMALLEST_LEVEL_PX = 512
TILE_PX = 256


def write_heatmap_tiff(
    path: Path,
    slide: SlideAttention,
    *,
    bounds: Rectangle,
    quantity: HeatmapQuantity = "attention",
    scale: Scale = "rank",
) -> None:
    """Write the heat map alone, white outside patches.

    A pixel covers the same integer number of level-0 px on both axes. White rows and columns are added at the
    bottom and the right, so that each level has exactly half the edges of the one before: programs use one
    factor for both axes. If mpp is known, the file states the
    pixel size in micrometres, by which QuPath and other viewers align it with the slide.

    Args:
        path: The file, `.ome.tiff`.
        slide: The output of the model.
        bounds: The area of the slide that the picture covers.
        quantity: Attention, or the contribution of each patch to the logit.
        scale: By rank within the slide, or raw: relative to the largest value.

    Raises:
        ConfigError: If contributions are asked for, but the pooling of the model has none.
        StoreError: If the disk is full, or the folder is not writable.
    """
    downsample = max(
        math.ceil(max(bounds.width, bounds.height) / LONGEST_PX), slide.size_level0_px // PATCH_PX, 1
    )
    painted = painted_patches(
        slide.coords,
        size_level0_px=slide.size_level0_px,
        frame=Frame(bounds.x, bounds.y, Downsample(downsample, downsample)),
        shades=shades_of(slide, quantity=quantity, scale=scale),
        colours=colour_map(quantity),
        shape=_shape(bounds, downsample=downsample),
    )
    picture = np.where(painted[..., 3:] > 0, painted[..., :3], 255).astype(np.uint8)
    levels = _pyramid(picture)
    metadata: dict[str, object] = {"axes": "YXS", "Name": f"{quantity} of {slide.slide_id}, by {scale}"}
    if slide.mpp is not None:
        for axis in "XY":
            metadata[f"PhysicalSize{axis}"] = slide.mpp * downsample
            metadata[f"PhysicalSize{axis}Unit"] = "µm"
    options = {"photometric": "rgb", "tile": (TILE_PX, TILE_PX), "compression": "deflate"}
    with write_atomically(path) as draft, tifffile.TiffWriter(draft, ome=True, bigtiff=True) as file:
        file.write(levels[0], subifds=len(levels) - 1, metadata=metadata, **options)  # pyright: ignore[reportArgumentType]
        for level in levels[1:]:
            file.write(level, subfiletype=1, **options)  # pyright: ignore[reportArgumentType]


def _shape(bounds: Rectangle, *, downsample: int) -> tuple[int, int]:
    """Rows and columns of the picture, which can be halved until it is small."""
    height, width = (math.ceil(edge / downsample) for edge in (bounds.height, bounds.width))
    step = 1
    while max(height, width) > SMALLEST_LEVEL_PX * step:
        step *= 2
    return -(-height // step) * step, -(-width // step) * step


def _pyramid(picture: UInt8[np.ndarray, "row column 3"]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """The picture and coarser levels of half the size each; by nearest neighbour, to keep the colours."""
    levels = [picture]
    while max(levels[-1].shape) > SMALLEST_LEVEL_PX:
        height, width = levels[-1].shape[:2]
        half = (max(width // 2, 1), max(height // 2, 1))
        levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_NEAREST), np.uint8))
    return levels
