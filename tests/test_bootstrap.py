"""Limits and p against other formulas for the same, and how often the limits cover."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t

from hardmil.bootstrap import (
    SampleSize,
    draw_cases,
    moving_threshold_limits,
    percentile_limits,
    share_limits,
    widened_p,
    widened_tail,
)

MANY = 10**9
Limits = Callable[..., tuple[float, float]]


def test_memory_is_limited_without_changing_a_draw(monkeypatch: pytest.MonkeyPatch):
    holds = np.array([[0, 1], *[[1, 0]] * 6])  # some resamples are drawn again
    at_once = draw_cases(holds, seed=3, n_resamples=500)
    monkeypatch.setattr("hardmil.bootstrap.ROWS", 7)
    np.testing.assert_array_equal(draw_cases(holds, seed=3, n_resamples=500), at_once)


def test_the_tails_are_those_of_hesterberg():
    assert widened_tail(MANY) == pytest.approx(0.025)
    for n_cases in (2, 10, 20, 100):
        z = math.sqrt(n_cases / (n_cases - 1)) * t.ppf(0.025, n_cases - 1)
        assert widened_tail(n_cases) == pytest.approx(norm.cdf(z))
    assert widened_tail(20) == pytest.approx(0.016, abs=5e-4)


@given(st.integers(2, 500), st.floats(1e-4, 1))
def test_p_is_widened_as_the_interval_is(n_cases: int, p: float):
    assert widened_p(2 * widened_tail(n_cases), n_cases=n_cases) == pytest.approx(0.05)
    assert p <= widened_p(p, n_cases=n_cases) * (1 + 1e-9) <= 1 + 1e-8
    assert widened_p(p, n_cases=MANY) == pytest.approx(p, rel=1e-3)


def test_percentiles_of_what_is_defined():
    values = np.array([*range(41), math.nan])
    assert percentile_limits(values, n_cases=MANY) == pytest.approx((1, 39))
    low, high = percentile_limits(values, n_cases=20)
    assert (low, high) == pytest.approx((40 * widened_tail(20), 40 - 40 * widened_tail(20)))
    assert all(map(math.isnan, percentile_limits(np.array([math.nan]), n_cases=9)))


@pytest.mark.parametrize("n_positive", [0, 1, 7, 20])
def test_a_share_of_independent_slides_has_wilsons_interval(n_positive: int):
    drawn = np.random.default_rng(0).binomial(20, n_positive / 20, size=20_000) / 20
    found = share_limits(n_positive / 20, drawn, size=SampleSize(MANY, 20, 20))
    expected = binomtest(n_positive, 20).proportion_ci(method="wilson")
    assert found == pytest.approx((expected.low, expected.high), abs=0.01)


def test_slides_that_depend_on_each_other_count_as_fewer():
    """Twice the variance of independent slides: half as many."""
    rng = np.random.default_rng(0)
    drawn = 0.3 + rng.normal(size=20_000) * math.sqrt(2 * 0.3 * 0.7 / 100)
    found = share_limits(0.3, drawn, size=SampleSize(MANY, 10, 100))
    expected = binomtest(15, 50).proportion_ci(method="wilson")
    assert found == pytest.approx((expected.low, expected.high), abs=0.005)
    few = share_limits(0.3, drawn, size=SampleSize(10, 10, 100))
    assert few[0] < found[0] < 0.3 < found[1] < few[1]
    most = share_limits(0.3, drawn, size=SampleSize(MANY, 10, 30))
    expected = binomtest(9, 30).proportion_ci(method="wilson")
    assert most == pytest.approx((expected.low, expected.high))


LIMITS = pytest.mark.parametrize("limits", [share_limits, moving_threshold_limits])


@LIMITS
def test_where_nothing_was_resampled_a_share_has_no_limits(limits: Limits):
    assert all(map(math.isnan, limits(0.3, np.zeros(0), size=SampleSize(9, 9, 9))))
    assert all(map(math.isnan, limits(math.nan, np.array([math.nan]), size=SampleSize(9, 9, 9))))


@LIMITS
@given(st.floats(0, 1), st.floats(0, 0.5), st.integers(2, 50))
def test_limits_of_a_share_hold_it_and_are_shares(limits: Limits, value: float, spread: float, n_cases: int):
    drawn = np.clip([value - spread, value, value + spread], 0, 1)
    low, high = limits(value, drawn, size=SampleSize(n_cases, n_cases, 3 * n_cases))
    assert 0 <= low <= value <= high <= 1


def test_a_moving_threshold_has_the_wider_of_two_intervals():
    size = SampleSize(MANY, 10, 40)
    wide = np.linspace(0, 0.9, 1001)
    assert moving_threshold_limits(0.02, wide, size=size)[1] == percentile_limits(wide, n_cases=MANY)[1]
    of_ten = binomtest(2, 10).proportion_ci(method="wilson")
    level = moving_threshold_limits(0.2, np.full(50, 0.2), size=size)
    assert level == pytest.approx((of_ten.low, of_ten.high))
    of_forty = binomtest(8, 40).proportion_ci(method="wilson")
    narrow = moving_threshold_limits(0.2, np.array([0.2] * 50 + [0.2001]), size=size)
    assert narrow == pytest.approx((of_forty.low, of_forty.high))


def test_with_few_cases_a_share_is_covered_where_percentiles_fail():
    """Ten cases of six slides that agree in part; the seed is fixed."""
    rng, n_cases, rate = np.random.default_rng(0), 10, 0.15
    size = SampleSize(n_cases, n_cases, 6 * n_cases)
    covered = {"share": 0, "percentile": 0}
    for _ in range(400):
        of_case = (rng.beta(rate, 1 - rate, size=(n_cases, 1)) > rng.uniform(size=(n_cases, 6))).mean(axis=1)
        drawn = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=400) @ of_case / n_cases
        limits = {
            "share": share_limits(float(of_case.mean()), drawn, size=size),
            "percentile": percentile_limits(drawn, n_cases=MANY),
        }
        for name, (low, high) in limits.items():
            covered[name] += low <= rate <= high
    assert covered["percentile"] / 400 < 0.85
    assert covered["share"] / 400 > 0.9
