import math
import re
from dataclasses import fields

from hardmil.review.curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, fpr_curve
from hardmil.review.rounds import Round
from hardmil.review.templating import render


def round_of(number: int, *, n_verdicts: int, fpr: float, fpr_with: float, half: float = 0.05) -> Round:
    blank = {int: 0, float: 0.0, str: ""}
    values = {one.name: blank[one.type] for one in fields(Round) if one.type in blank} | {
        "number": number,
        "at": "2026-01-01",
        "arm": "a",
        "arm_with_verdicts": "b",
        "n_verdicts": n_verdicts,
        "fpr": fpr,
        "fpr_with": fpr_with,
        "fpr_with_low": fpr_with - half,
        "fpr_with_high": fpr_with + half,
    }
    return Round(**values)  # type: ignore[arg-type]


def test_the_curve_is_in_order_of_verdicts_and_in_the_frame():
    rounds = [
        round_of(1, n_verdicts=100, fpr=0.2, fpr_with=0.15),
        round_of(2, n_verdicts=50, fpr=0.2, fpr_with=0.3),
    ]
    curve = fpr_curve(rounds)
    first, second = curve.points
    assert (first.x, second.x) == ((LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT)
    # The axis ends at 0.4.
    assert second.y_without == HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) / 2
    assert first.y_with < first.y_without == second.y_without < second.y_with
    assert TOP <= first.high < first.y_with < first.low <= HEIGHT - BOTTOM
    assert [tick.text for tick in curve.x_ticks] == ["0", "50", "100"]
    assert [tick.text for tick in curve.y_ticks] == ["0", "0.1", "0.2", "0.3", "0.4"]


def test_rounds_without_a_rate_are_left_out_and_unknown_limits_are_points():
    rounds = [
        round_of(1, n_verdicts=10, fpr=math.nan, fpr_with=0.1),
        round_of(2, n_verdicts=20, fpr=0.1, fpr_with=0.1, half=math.nan),
    ]
    (point,) = fpr_curve(rounds).points
    assert point.low == point.high == point.y_with


def test_the_drawing_has_no_style_that_a_policy_refuses():
    rounds = [round_of(i, n_verdicts=10 * i, fpr=0.2, fpr_with=0.1) for i in (1, 2)]
    drawing = render("curve.svg.jinja", {"curve": fpr_curve(rounds)})
    assert "style" not in drawing
    assert len(re.findall("<circle", drawing)) == 4
