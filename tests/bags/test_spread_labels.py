import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardmil.bags.spread_labels import spread_over_folds


@given(st.integers(0, 50), st.integers(2, 5))
def test_every_case_has_a_fold_and_the_rarest_label_is_spread_evenly(seed: int, n_folds: int):
    rng = np.random.default_rng(seed)
    yes = rng.random((40, 3)) < np.array([0.1, 0.4, 0.7])
    has = np.concatenate([yes, ~yes], axis=1)
    fold_of = spread_over_folds(has, n_folds=n_folds, seed=seed)
    counts = np.stack([np.bincount(fold_of[column], minlength=n_folds) for column in has.T])
    assert set(fold_of.tolist()) <= set(range(n_folds))
    present = has.sum(axis=0) > 0
    rarest = np.argmin(np.where(present, has.sum(axis=0), 99))
    assert np.ptp(counts[rarest]) <= 1
    np.testing.assert_array_equal(fold_of, spread_over_folds(has, n_folds=n_folds, seed=seed))


def test_labels_are_spread_better_than_at_random():
    rng = np.random.default_rng(0)
    yes = rng.random((60, 4)) < np.array([0.1, 0.2, 0.3, 0.5])

    def unevenness(fold_of: np.ndarray) -> int:
        return max(int(np.ptp(np.bincount(fold_of[column], minlength=5))) for column in yes.T)

    spread = [unevenness(spread_over_folds(yes | ~yes.any(1)[:, None], n_folds=5, seed=s)) for s in range(20)]
    drawn = [unevenness(rng.permutation(60) % 5) for _ in range(20)]
    assert max(spread) < np.mean(drawn)


def test_two_cases_of_one_label_are_in_two_folds():
    has = np.array([[True, False], [True, False], [False, True], [False, True]])
    fold_of = spread_over_folds(has, n_folds=2, seed=0)
    assert fold_of[0] != fold_of[1]
    assert fold_of[2] != fold_of[3]
    assert pytest.approx([2, 2]) == np.bincount(fold_of)
