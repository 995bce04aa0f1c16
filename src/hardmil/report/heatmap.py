"""Attention over the slide: where the model looked, as ranks within one slide."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke

from hardmil.geojson import Region
from hardmil.report.drawing import length_text, scale_bar_um

COLOUR_MAP = "viridis"
"""Even to a colour-blind eye, and its green middle is no colour of H&E; that of cividis vanishes on pink."""

OPACITY = 0.65
"""Of a patch's colour over its tissue: nuclei stay visible below it."""

_Outline = Literal["solid", "dashed", "dotted"]
_OUTLINES: tuple[_Outline, ...] = ("solid", "dashed", "dotted")


@dataclass(frozen=True, eq=False)
class SlideAttention:
    """What a model said of one slide, and where; places in level-0 px."""

    slide_id: str
    label: str | None
    bag_score: float
    coords: Int[np.ndarray, "instance 2"]
    size_level0_px: int
    attention: Float[np.ndarray, " instance"]
    mpp: float | None = None
    truth: Sequence[Region] = ()


def attention_overlay(
    thumbnail: UInt8[np.ndarray, "row column 3"],
    *,
    coords: Int[np.ndarray, "instance 2"],
    size_level0_px: int,
    attention: Float[np.ndarray, " instance"],
    downsample: float | int,
) -> UInt8[np.ndarray, "row column 3"]:
    """The thumbnail with each patch of the bag coloured by the rank of its attention.

    Ranks, as one patch often holds most of the attention and would leave the rest one colour. Tissue outside
    the bag stays as it is. Where patches overlap, the higher attention is on top.

    Args:
        thumbnail: RGB of the whole slide.
        coords: (x, y) of the patches' top-left corners, level-0 px.
        size_level0_px: Edge of a patch, level-0 px.
        attention: One value a patch.
        downsample: Level-0 px per px of the thumbnail.
    """
    colours = _colours(attention_ranks(attention)) * OPACITY
    painted = np.zeros(thumbnail.shape)
    is_patch = np.zeros(thumbnail.shape[:2], dtype=bool)
    corners = np.rint(np.hstack([coords, coords + size_level0_px]) / downsample).astype(np.int64)
    for i in np.argsort(attention, kind="stable"):
        left, top, right, bottom = corners[i]
        # A patch smaller than a pixel of the thumbnail still gets one.
        place = np.s_[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)]
        painted[place], is_patch[place] = colours[i], True
    blended = painted + (1 - OPACITY) * thumbnail
    return np.where(is_patch[..., None], np.rint(blended), thumbnail).astype(np.uint8)


def attention_ranks(attention: Float[np.ndarray, " instance"]) -> Float[np.ndarray, " instance"]:
    """Share of the other patches with less attention, from 0 to 1; ties share their mean, alone it is 0.5."""
    if len(attention) == 1:
        return np.array([0.5])
    ordered = np.sort(attention)
    below = np.searchsorted(ordered, attention, side="left")
    not_above = np.searchsorted(ordered, attention, side="right")
    return (below + not_above - 1) / 2 / (len(attention) - 1)


def attention_figure(
    slide: SlideAttention, *, thumbnail: UInt8[np.ndarray, "row column 3"], downsample: float | int
) -> bytes:
    """PNG of the slide beside its attention, with a scale bar where mpp is known, and truth outlined.

    Args:
        slide: What to show.
        thumbnail: RGB of the whole slide.
        downsample: Level-0 px per px of the thumbnail.
    """
    overlay = attention_overlay(
        thumbnail,
        coords=slide.coords,
        size_level0_px=slide.size_level0_px,
        attention=slide.attention,
        downsample=downsample,
    )
    rows, columns, size_in = _layout(thumbnail.shape[1] / thumbnail.shape[0])
    figure = Figure(figsize=size_in, dpi=110, layout="constrained")
    panels = list(figure.subplots(rows, columns))
    for axes, image in zip(panels, (thumbnail, overlay), strict=True):
        axes.imshow(image)
        axes.set_axis_off()
    _draw_truth(panels, slide.truth, downsample=downsample)
    if slide.mpp is not None:
        _draw_scale_bar(panels[0], thumbnail=thumbnail, um_per_px=slide.mpp * downsample)
    figure.suptitle(_title(slide), fontsize=11)
    _draw_colour_bar(panels)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _layout(aspect: float) -> tuple[int, int, tuple[float, float]]:
    """Rows, columns and inches of two panels: side by side, or one above the other on a wide slide."""
    if aspect > 1.8:
        return 2, 1, (9.0, 2 * 7.9 / aspect + 0.9)
    return 1, 2, (10.0, 4.4 / aspect + 0.7)


def _colours(ranks: np.ndarray) -> np.ndarray:
    return matplotlib.colormaps[COLOUR_MAP](ranks)[:, :3] * 255


def _title(slide: SlideAttention) -> str:
    label = "label not known" if slide.label is None else f"labelled {slide.label}"
    return f"{slide.slide_id}   {label}   bag score {slide.bag_score:.3f}".replace("$", r"\$")


def _draw_truth(panels: list[Axes], truth: Sequence[Region], *, downsample: float | int) -> None:
    """Outline the regions in both panels, one line style a name, and say which is which."""
    names = list(dict.fromkeys(region.name for region in truth))
    outlines = itertools.cycle(_OUTLINES)
    styles: dict[str, _Outline] = {name: next(outlines) for name in names}
    for axes, region in itertools.product(panels, truth):
        closed = np.vstack([region.polygon, region.polygon[:1]]) / downsample
        axes.plot(*closed.T, color="white", linewidth=3.2)
        axes.plot(*closed.T, color="black", linewidth=1.4, linestyle=styles[region.name])
    lines = [Line2D([], [], color="black", linewidth=1.4, linestyle=styles[name]) for name in names]
    if lines:
        panels[0].figure.legend(lines, names, loc="outside lower center", ncols=len(names), frameon=False)


def _draw_scale_bar(axes: Axes, *, thumbnail: np.ndarray, um_per_px: float) -> None:
    height, width = thumbnail.shape[:2]
    um = scale_bar_um(width * um_per_px)
    left, y = 0.03 * width, 0.96 * height
    halo: list[AbstractPathEffect] = [withStroke(linewidth=4, foreground="white")]
    ends = [left, left + um / um_per_px]
    axes.plot(ends, [y, y], color="black", linewidth=2.5, solid_capstyle="butt", path_effects=halo)
    text = axes.text(left, y - 0.015 * height, length_text(um), fontsize=10, va="bottom")
    text.set_path_effects(halo)


def _draw_colour_bar(panels: list[Axes]) -> None:
    figure = panels[1].figure
    bar = figure.colorbar(ScalarMappable(cmap=COLOUR_MAP), ax=panels, shrink=0.6, pad=0.01)
    bar.set_ticks([0, 0.5, 1], labels=["least", "median", "most"])
    bar.set_label("attention, by rank in this slide", fontsize=9)
