"""The curve of false-positive rate against the number of verdicts, as an SVG drawing for a dark page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hardmil.review.rounds import Round

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 16, 48


@dataclass(frozen=True)
class CurvePoint:
    """A round in px of the drawing: rates with and without verdicts, and the interval of the first."""

    x: float
    y_with: float
    low: float
    high: float
    y_without: float


@dataclass(frozen=True)
class Tick:
    """A position on an axis, and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """What the drawing shows, in px; y grows downwards."""

    points: Sequence[CurvePoint]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]


def fpr_curve(rounds: Sequence[Round]) -> Curve:
    """The curve of the rounds whose rates are known, by number of verdicts."""
    known = [one for one in rounds if not math.isnan(one.fpr + one.fpr_with)]
    most_verdicts = max((one.n_verdicts for one in known), default=1) or 1
    limits = [limit for one in known for limit in (one.fpr, one.fpr_with, one.fpr_with_high)]
    top = _round_up(max((limit for limit in limits if not math.isnan(limit)), default=1.0))

    def x(n: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * n / most_verdicts, 1)

    def y(rate: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / top, 1)

    points = [
        CurvePoint(
            x(one.n_verdicts),
            y(one.fpr_with),
            y(_known(one.fpr_with_low, one.fpr_with)),
            y(_known(one.fpr_with_high, one.fpr_with)),
            y(one.fpr),
        )
        for one in sorted(known, key=lambda one: one.n_verdicts)
    ]
    return Curve(
        points,
        x_ticks=[Tick(x(n), f"{n}") for n in sorted({0, *(one.n_verdicts for one in known)})],
        y_ticks=[Tick(y(top * step / 4), f"{top * step / 4:.2g}") for step in range(5)],
    )


def _known(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value


def _round_up(rate: float) -> float:
    """The lowest of 0.05, 0.1, 0.2, 0.4, 0.6, 0.8 and 1 that is not below a rate."""
    return next((limit for limit in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8) if rate <= limit), 1.0)
