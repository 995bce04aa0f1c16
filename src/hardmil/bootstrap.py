"""Resampling of cases: how far a number would move with other cases like these.

Every 95% interval and every p of the library comes from here. Why these methods, and how often they cover:
docs/decisions/0011-intervals-for-few-cases.md.
"""

# Partly typed libraries; the rest of strict holds.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, ndtri, stdtr, stdtrit

N_RESAMPLES = 20_000
"""With 2,000, a p of 0.04 after Holm's correction is 0.015 to 0.070, depending on the seed."""

LEVEL = 0.95
ROWS = 2_000
"""Resamples drawn at once: limits the memory with many cases, and changes no number."""


def draw_cases(
    holds: np.ndarray, *, seed: int, n_resamples: int = N_RESAMPLES
) -> Int[np.ndarray, "resample case"]:
    """How often each case is drawn in each resample; every resample has slides of all classes.

    Args:
        holds: [case, class], whether a case has a slide of each class.
        seed: Seed of the draws.
        n_resamples: Number of resamples; none where not all classes can be drawn, or there are fewer than two
            cases.
    """
    n_cases = len(holds)
    if n_cases < 2 or not holds.any(axis=0).all():
        return np.zeros((0, n_cases), dtype=np.int16)
    rng = np.random.default_rng(seed)
    draws = np.zeros((n_resamples, n_cases), dtype=np.int16)
    left = np.arange(n_resamples)
    while len(left):
        for rows in np.split(left, range(ROWS, len(left), ROWS)):
            draws[rows] = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=len(rows))
        left = left[(draws[left] @ holds == 0).any(axis=1)]
    return draws


def draw_bags(
    strata: Bool[np.ndarray, "bag stratum"], cases: Sequence[str], *, seed: int, n_resamples: int
) -> Iterator[Int[np.ndarray, " drawn"]]:
    """The positions of the bags in each resample of `draw_cases`, as often as their case was drawn.

    Args:
        strata: Whether a bag is in each group that every resample has bags of, such as the classes.
        cases: The case of each bag.
        seed: Seed of the draws.
        n_resamples: Number of resamples.
    """
    names, case_of = np.unique(np.asarray(cases), return_inverse=True)
    holds = np.zeros((len(names), strata.shape[1]), dtype=np.int64)
    np.maximum.at(holds, case_of, strata.astype(np.int64))
    draws = draw_cases(holds, seed=seed, n_resamples=n_resamples)
    return (np.repeat(np.arange(len(strata)), draw[case_of]) for draw in draws)


def widened_tail(n_cases: int) -> float:
    """The share of resamples outside either limit: 0.025 for many cases, less for few (0.016 for 20).

    Source: Hesterberg 2015, "expanded percentile": the bootstrap spread is too small by sqrt((n - 1) / n),
    and a normal quantile is used where a t quantile belongs.
    """
    return float(ndtr(_spread(n_cases) * stdtrit(n_cases - 1, (1 - LEVEL) / 2)))


def widened_p(p: float, *, n_cases: int) -> float:
    """The p that belongs to limits of `widened_tail`, from a p that belongs to plain percentiles."""
    return float(2 * stdtr(n_cases - 1, ndtri(p / 2) / _spread(n_cases)))


def percentile_limits(values: Float[np.ndarray, " resample"], *, n_cases: int) -> tuple[float, float]:
    """The limits of the values that are not NaN, with `widened_tail` on either side; NaN if all are.

    For values that can have any size, such as differences and thresholds.
    """
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return math.nan, math.nan
    tail = widened_tail(n_cases)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class SampleSize:
    """What a share was measured on.

    `n_cases` were resampled; `n_independent` of them have slides that the share is over; it is over at most
    `n_slides` slides.
    """

    n_cases: int
    n_independent: int
    n_slides: int


def share_limits(
    value: float, resampled: Float[np.ndarray, " resample"], *, size: SampleSize
) -> tuple[float, float]:
    """The limits of a share, such as a false-positive rate or an AUC; NaN without resamples.

    Wilson's interval, with the number of independent slides that would give a share this spread over the
    resamples: value (1 - value) / variance, at most `n_slides`. It is `n_independent` where all resamples are
    equal, so that a share of 0 or 1 has an interval too.

    Source: Wilson 1927, with the effective sample size of Korn and Graubard 1998 (t quantile included).
    """
    defined = resampled[~np.isnan(resampled)]
    if len(defined) == 0 or math.isnan(value):
        return math.nan, math.nan
    return _wilson(value, _n_effective(value, defined, size=size), n_cases=size.n_cases)


def moving_threshold_limits(
    value: float, resampled: Float[np.ndarray, " resample"], *, size: SampleSize
) -> tuple[float, float]:
    """The limits of a rate whose threshold is set again in each resample; NaN without resamples.

    For example, a false-positive rate at a fixed sensitivity, or a point of a ROC curve. As its threshold
    moves with the resample, it can be more spread than a share of any number of slides. It has the percentile
    limits, but at least those of a share of `n_independent` slides.
    """
    defined = resampled[~np.isnan(resampled)]
    if len(defined) == 0 or math.isnan(value):
        return math.nan, math.nan
    n_effective = max(_n_effective(value, defined, size=size), float(size.n_independent))
    of_share = _wilson(value, n_effective, n_cases=size.n_cases)
    low, high = percentile_limits(defined, n_cases=size.n_cases)
    return min(low, of_share[0]), max(high, of_share[1])


def _n_effective(value: float, resampled: Float[np.ndarray, " resample"], *, size: SampleSize) -> float:
    spread, variance = value * (1 - value), float(np.var(resampled)) * _spread(size.n_cases) ** 2
    if spread < 1e-12 or variance < 1e-12:
        return float(size.n_independent)
    return min(spread / variance, float(size.n_slides))


def _wilson(value: float, n: float, *, n_cases: int) -> tuple[float, float]:
    """Wilson's interval of a share of n slides, widened as far as few cases widen a normal interval."""
    z = ndtri((1 + LEVEL) / 2)
    n *= (z / stdtrit(n_cases - 1, (1 + LEVEL) / 2)) ** 2
    centre = (value * n + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(n * value * (1 - value) + z**2 / 4)
    # At 0 and 1 the formula is exact, but floats are not.
    return max(0.0, min(value, float(centre - half))), min(1.0, max(value, float(centre + half)))


def _spread(n_cases: int) -> float:
    """The true spread of a mean over that of its resamples."""
    return math.sqrt(n_cases / (n_cases - 1))
