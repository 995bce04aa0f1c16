"""Resampling of cases: how far a number would move with other cases like these."""

import numpy as np
from jaxtyping import Float, Int

N_RESAMPLES = 2000
LEVEL = 0.95


def draw_cases(
    holds: np.ndarray, *, seed: int, n_resamples: int = N_RESAMPLES
) -> Int[np.ndarray, "resample case"]:
    """How often each case is drawn in each resample; every resample has slides of both classes.

    Args:
        holds: [case, class], whether a case has a slide of the negative and of the positive class.
        seed: Seed of the draws.
        n_resamples: Number of resamples; none where both classes cannot be drawn, or there are fewer than two
            cases.
    """
    n_cases = len(holds)
    if n_cases < 2 or not holds.any(axis=0).all():
        return np.zeros((0, n_cases), dtype=np.int64)
    rng = np.random.default_rng(seed)
    draws = np.zeros((n_resamples, n_cases), dtype=np.int64)
    left = np.arange(n_resamples)
    while len(left):
        draws[left] = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=len(left))
        left = left[(draws[left] @ holds == 0).any(axis=1)]
    return draws


def percentile_limits(values: Float[np.ndarray, " resample"]) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the values that are not NaN; NaN if all are."""
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
