"""Heat maps of attention and contribution on the slide."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke

from hardmil.errors import ConfigError
from hardmil.files.geojson import Region
from hardmil.geometry import Frame
from hardmil.pictures.drawing import length_text, scale_bar_um

COLOUR_MAP = "viridis"
"""Perceptually uniform, also for colour-blind readers, and its green middle does not occur in H&E; that of
cividis is hard to see on pink."""

SIGNED_COLOUR_MAP = "PuOr_r"
"""For contributions: violet against, orange for the positive class, also for colour-blind readers."""

OPACITY = 0.65
"""Opacity of a patch's colour over the tissue; nuclei stay visible."""

HeatmapQuantity = Literal["attention", "contribution"]
Scale = Literal["rank", "raw"]
FLAT = 1.1
"""Attention is flat if the largest is at most this many times the smallest: the model looks nowhere."""

_Outline = Literal["solid", "dashed", "dotted"]
_OUTLINES: tuple[_Outline, ...] = ("solid", "dashed", "dotted")


@dataclass(frozen=True, eq=False)
class SlideAttention:
    """The output of a model for one slide, with coordinates in level-0 px.

    `contribution` is what each patch adds to the slide's logit; `classes` are the names of the negative and
    the positive class. With more than two classes, all three are those of `shown_class`, and `bag_score` is
    its score.
    """

    slide_id: str
    label: str | None
    bag_score: float
    coords: Int[np.ndarray, "instance 2"]
    size_level0_px: int
    attention: Float[np.ndarray, " instance"]
    mpp: float | None = None
    truth: Sequence[Region] = ()
    contribution: Float[np.ndarray, " instance"] | None = None
    classes: tuple[str, str] = ("negative", "positive")
    shown_class: str = ""


def attention_overlay(
    thumbnail: UInt8[np.ndarray, "row column 3"],
    *,
    coords: Int[np.ndarray, "instance 2"],
    size_level0_px: int,
    attention: Float[np.ndarray, " instance"],
    frame: Frame,
) -> UInt8[np.ndarray, "row column 3"]:
    """The thumbnail with each patch of the bag coloured by the rank of its attention.

    Ranks are used because one patch often has most of the attention, and all others would have one colour.
    Tissue outside the bag is unchanged. Where patches overlap, the one with more attention is on top.

    Args:
        thumbnail: RGB of the slide, or of an area of it.
        coords: (x, y) of the patches' top-left corners, level-0 px.
        size_level0_px: Edge of a patch, level-0 px.
        attention: One value for each patch.
        frame: Where the thumbnail is on the slide.
    """
    shades = attention_shades(attention)
    painted = painted_patches(
        coords,
        size_level0_px=size_level0_px,
        frame=frame,
        shades=shades,
        colours=COLOUR_MAP,
        shape=thumbnail.shape[:2],
    )
    return _blended(painted, thumbnail)


def painted_patches(
    coords: Int[np.ndarray, "instance 2"],
    *,
    size_level0_px: int,
    frame: Frame,
    shades: Float[np.ndarray, " instance"],
    colours: str,
    shape: tuple[int, int],
) -> UInt8[np.ndarray, "row column 4"]:
    """An RGBA picture with each patch in its colour, transparent elsewhere; the strongest shade is on top.

    Args:
        coords: (x, y) of the patches' top-left corners, level-0 px.
        size_level0_px: Edge of a patch, level-0 px; it is drawn with at least one pixel.
        frame: Where the picture is on the slide.
        shades: Positions on the colour map, from 0 to 1; on a signed map, 0.5 is neutral.
        colours: Name of the colour map.
        shape: Rows and columns of the picture.
    """
    colour = np.rint(matplotlib.colormaps[colours](shades) * 255).astype(np.uint8)
    painted = np.zeros((*shape, 4), dtype=np.uint8)
    squares = frame.squares_px(coords, size_level0_px=size_level0_px)
    strength = np.abs(shades - 0.5) if colours == SIGNED_COLOUR_MAP else shades
    for i in np.argsort(strength, kind="stable").tolist():
        left, top, right, bottom = squares[i]
        painted[top:bottom, left:right] = colour[i]
    return painted


def shades_of(
    slide: SlideAttention, *, quantity: HeatmapQuantity, scale: Scale
) -> Float[np.ndarray, " instance"]:
    """The position of each patch on the colour map, from 0 to 1; for contributions, 0.5 is neutral.

    Raises:
        ConfigError: If contributions are asked for, but the pooling of the model has none.
    """
    if quantity == "attention":
        return attention_shades(slide.attention) if scale == "rank" else _share_of_most(slide.attention)
    if slide.contribution is None:
        raise ConfigError(
            f"slide {slide.slide_id}: the pooling is not a sum over instances, so none has a contribution; "
            "draw the attention, or train with attention, mean or max pooling"
        )
    size = np.abs(slide.contribution)
    share = attention_ranks(size) if scale == "rank" else _share_of_most(size)
    return 0.5 + np.sign(slide.contribution) * share / 2


def _share_of_most(values: Float[np.ndarray, " instance"]) -> Float[np.ndarray, " instance"]:
    most = values.max()
    return values / most if most > 0 else values


def _blended(
    painted: UInt8[np.ndarray, "row column 4"], thumbnail: UInt8[np.ndarray, "row column 3"]
) -> UInt8[np.ndarray, "row column 3"]:
    blended = cv2.addWeighted(painted[..., :3], OPACITY, thumbnail, 1 - OPACITY, 0)
    return np.where(painted[..., 3:] > 0, blended, thumbnail).astype(np.uint8)


def attention_shades(attention: Float[np.ndarray, " instance"]) -> Float[np.ndarray, " instance"]:
    """The ranks of attention; 0.5 for all where it is flat, as ranks would show differences of nothing."""
    return np.full(len(attention), 0.5) if is_flat(attention) else attention_ranks(attention)


def is_flat(attention: Float[np.ndarray, " instance"]) -> bool:
    """Whether no patch has noticeably more attention than another."""
    return bool(attention.max() <= FLAT * attention.min())


def attention_ranks(attention: Float[np.ndarray, " instance"]) -> Float[np.ndarray, " instance"]:
    """Share of the other patches with less attention, 0 to 1; ties get their mean, a single patch 0.5."""
    if len(attention) == 1:
        return np.array([0.5])
    ordered = np.sort(attention)
    below = np.searchsorted(ordered, attention, side="left")
    not_above = np.searchsorted(ordered, attention, side="right")
    return (below + not_above - 1) / 2 / (len(attention) - 1)


def attention_figure(
    slide: SlideAttention,
    *,
    thumbnail: UInt8[np.ndarray, "row column 3"],
    frame: Frame,
    quantity: HeatmapQuantity = "attention",
    scale: Scale = "rank",
) -> bytes:
    """PNG of the slide next to its heat map, with a scale bar if mpp is known, and regions outlined.

    Args:
        slide: The output of the model.
        thumbnail: RGB of the slide, or of an area of it.
        frame: Where the thumbnail is on the slide.
        quantity: Attention, or the contribution of each patch to the logit.
        scale: By rank within the slide, or raw: relative to the largest value.

    Raises:
        ConfigError: If contributions are asked for, but the pooling of the model has none.
    """
    painted = painted_patches(
        slide.coords,
        size_level0_px=slide.size_level0_px,
        frame=frame,
        shades=shades_of(slide, quantity=quantity, scale=scale),
        colours=colour_map(quantity),
        shape=thumbnail.shape[:2],
    )
    overlay = _blended(painted, thumbnail)
    rows, columns, size_in = _layout(thumbnail.shape[1] / thumbnail.shape[0])
    figure = Figure(figsize=size_in, dpi=110, layout="constrained")
    panels = list(figure.subplots(rows, columns))
    for axes, image in zip(panels, (thumbnail, overlay), strict=True):
        axes.imshow(image)
        axes.set_axis_off()
    _draw_truth(panels, slide.truth, frame=frame)
    if slide.mpp is not None:
        _draw_scale_bar(panels[0], thumbnail=thumbnail, um_per_px=slide.mpp * frame.downsample.x)
    figure.suptitle(_title(slide), fontsize=11)
    _draw_colour_bar(panels, slide=slide, quantity=quantity, scale=scale)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _layout(aspect: float) -> tuple[int, int, tuple[float, float]]:
    """Rows, columns and size in inches of two panels: side by side, or stacked for a wide slide."""
    if aspect > 1.8:
        return 2, 1, (9.0, 2 * 7.9 / aspect + 0.9)
    return 1, 2, (10.0, 4.4 / aspect + 0.7)


def colour_map(quantity: HeatmapQuantity) -> str:
    """The name of the matplotlib colour map for this quantity."""
    return COLOUR_MAP if quantity == "attention" else SIGNED_COLOUR_MAP


def _title(slide: SlideAttention) -> str:
    label = "label unknown" if slide.label is None else f"labelled {slide.label}"
    of_class = f" for {slide.shown_class}" if slide.shown_class else ""
    return f"{slide.slide_id}   {label}   bag score{of_class} {slide.bag_score:.3f}".replace("$", r"\$")


def _draw_truth(panels: list[Axes], truth: Sequence[Region], *, frame: Frame) -> None:
    """Outline the regions in both panels, with a line style and a legend entry for each name."""
    names = list(dict.fromkeys(region.name for region in truth))
    outlines = itertools.cycle(_OUTLINES)
    styles: dict[str, _Outline] = {name: next(outlines) for name in names}
    for axes, region in itertools.product(panels, truth):
        closed = frame.to_px(np.vstack([region.polygon, region.polygon[:1]]))
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


def _draw_colour_bar(
    panels: list[Axes], *, slide: SlideAttention, quantity: HeatmapQuantity, scale: Scale
) -> None:
    figure = panels[1].figure
    bar = figure.colorbar(ScalarMappable(cmap=colour_map(quantity)), ax=panels, shrink=0.6, pad=0.01)
    bar.set_ticks([0, 0.5, 1], labels=_ticks(slide, quantity=quantity, scale=scale))
    how = "by rank in this slide" if scale == "rank" else "raw"
    if quantity == "attention" and is_flat(slide.attention):
        how = f"flat: all within {FLAT - 1:.0%}"
    of_class = f" for {slide.shown_class}".replace("$", r"\$") if slide.shown_class else ""
    bar.set_label(f"{quantity}{of_class}, {how}", fontsize=9)


def _ticks(slide: SlideAttention, *, quantity: HeatmapQuantity, scale: Scale) -> list[str]:
    """The labels at the bottom, the middle and the top of the colour bar."""
    if quantity == "attention":
        most = float(slide.attention.max())
        return ["least", "median", "most"] if scale == "rank" else ["0", f"{most / 2:.3g}", f"{most:.3g}"]
    most = 0.0 if slide.contribution is None else float(np.abs(slide.contribution).max())
    against, towards = (f"for {name}".replace("$", r"\$") for name in slide.classes)
    ends = ("", "") if scale == "rank" else (f"\n\u2212{most:.3g}", f"\n+{most:.3g}")
    return [against + ends[0], "none", towards + ends[1]]
