"""Small SVG figures of curves: ROC, precision-recall, reliability."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SIZE_IN = (4.4, 4.6)
INK, SOFT, LINE = "#1f2428", "#566069", "#d5dadf"

_Dashes = Literal["solid", "dashed", "dashdot", "dotted"]
STYLES: tuple[tuple[str, _Dashes], ...] = (
    ("#1f2428", "dashed"),
    ("#0b6aa8", "solid"),
    ("#b8500a", "dashdot"),
    ("#7a3e8e", "dotted"),
)
"""Colour and dashes of the curves, which is also their maximum number; distinguishable in grey and by
colour-blind readers."""


@dataclass(frozen=True, eq=False)
class CurveLine:
    """One curve of a figure with its band; x positions `xs` and values from 0 to 1."""

    name: str
    xs: Float[np.ndarray, " point"]
    values: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"]
    high: Float[np.ndarray, " point"]


@dataclass(frozen=True, eq=False)
class ReliabilityLine:
    """Mean score, share of positive slides and number of predictions in each bin; nan in an empty bin."""

    name: str
    mean_score: Float[np.ndarray, " bin"]
    share_positive: Float[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]


def roc_figure(lines: Sequence[CurveLine]) -> str:
    """SVG of sensitivity over false-positive rate; the diagonal is a random classifier."""
    figure, axes = _square("False-positive rate", "Sensitivity")
    axes.plot([0, 1], [0, 1], color="#98a2ab", linewidth=0.9, linestyle=(0, (1, 2)))
    _draw(axes, lines, drawstyle="steps-post", step="post")
    _legend(figure, axes)
    return _svg(figure)


def precision_figure(lines: Sequence[CurveLine], *, share_positive: float) -> str:
    """SVG of precision over recall; the dotted line is a random classifier, the share of positive slides."""
    figure, axes = _square("Recall (sensitivity)", "Precision")
    axes.plot([0, 1], [share_positive] * 2, color="#98a2ab", linewidth=0.9, linestyle=(0, (1, 2)))
    _draw(axes, lines, drawstyle="steps-pre", step="pre")
    _legend(figure, axes)
    return _svg(figure)


def reliability_figure(lines: Sequence[ReliabilityLine], *, positive: str) -> str:
    """SVG of the share of positive slides over the score, with a histogram of the predictions below."""
    figure = Figure(figsize=(4.4, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(4, 1.1), sharex=True)
    _style_axes(above, "", f"Share that is {positive}")
    above.plot([0, 1], [0, 1], color="#98a2ab", linewidth=0.9, linestyle=(0, (1, 2)))
    _style_axes(below, "Score or probability", "Predictions")
    below.set_ylim(auto=True)
    width = 0.8 / len(lines[0].count) / len(lines)
    for number, line in enumerate(lines):
        # In reverse order, so that the calibrated curve is solid and the raw one dashed.
        colour, dashes = STYLES[(1 - number) % 2]
        is_filled = line.count > 0
        above.plot(
            *(line.mean_score[is_filled], line.share_positive[is_filled]),
            color=colour,
            linestyle=dashes,
            linewidth=1.6,
            marker="os"[number % 2],
            markersize=4,
            label=line.name,
        )
        left = (np.arange(len(line.count)) + 0.1) / len(line.count) + number * width
        below.bar(left, line.count, width, align="edge", color=colour, alpha=0.85)
    below.yaxis.get_major_locator().set_params(nbins=2, integer=True)
    _legend(figure, above)
    return _svg(figure)


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    axes = figure.subplots()
    axes.set_aspect("equal")
    _style_axes(axes, x, y)
    return figure, axes


def _style_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(_plain(y), color=INK)
    axes.tick_params(colors=SOFT, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#98a2ab")
    axes.grid(color=LINE, linewidth=0.5)


def _draw(
    axes: Axes,
    lines: Sequence[CurveLine],
    *,
    drawstyle: Literal["steps-post", "steps-pre"],
    step: Literal["post", "pre"],
) -> None:
    for line, (colour, dashes) in zip(lines, STYLES, strict=False):
        if not np.isnan(line.low).all():
            axes.fill_between(line.xs, line.low, line.high, step=step, color=colour, alpha=0.13, linewidth=0)
        axes.plot(
            *(line.xs, line.values),
            color=colour,
            linestyle=dashes,
            linewidth=1.7,
            drawstyle=drawstyle,
            label=_plain(line.name),
        )


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        *(handles, labels),
        loc="outside lower left",
        ncols=1,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        handlelength=3.2,
    )


def _plain(text: str) -> str:
    """The text, escaped so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    # Text is kept as text, which is smaller; a fixed salt makes the output reproducible.
    fonts = ["Segoe UI", "Liberation Sans", "Arial", "DejaVu Sans", "sans-serif"]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hardmil", "font.family": fonts}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().decode()
