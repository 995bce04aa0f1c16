"""Folds over which several labels of each case are spread at once."""

import numpy as np
from jaxtyping import Bool, Int


def spread_over_folds(
    has: Bool[np.ndarray, "case label"], *, n_folds: int, seed: int
) -> Int[np.ndarray, " case"]:
    """The fold of each case; each label is spread over the folds as evenly as can be.

    Args:
        has: Whether a case has each label; every case has one at least.
        n_folds: Number of folds.
        seed: Seed of the order of cases and of ties.

    Source: iterative stratification, Sechidis et al. 2011, Algorithm 1. The label that the fewest remaining
    cases have comes first; each of its cases goes to the fold that still needs most of it, then to the one
    that needs most cases, then to any.
    """
    rng = np.random.default_rng(seed)
    fold_of = np.full(len(has), -1, dtype=np.int64)
    needs_of_label = np.tile(has.sum(axis=0) / n_folds, (n_folds, 1))
    needs = np.full(n_folds, len(has) / n_folds)
    while (fold_of < 0).any():
        n_left = has[fold_of < 0].sum(axis=0)
        rarest = int(np.argmin(np.where(n_left > 0, n_left, len(has) + 1)))
        for case in rng.permutation(np.flatnonzero((fold_of < 0) & has[:, rarest])):
            fold = np.lexsort((rng.random(n_folds), needs, needs_of_label[:, rarest]))[-1]
            fold_of[case] = fold
            needs_of_label[fold] -= has[case]
            needs[fold] -= 1
    return fold_of
