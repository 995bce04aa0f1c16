import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardmil.mil.smoothing import smoothed

VALUES = st.lists(st.floats(-6, 6, width=32), min_size=1, max_size=12)


def _smoothed(values: list[float], pairs: list[tuple[int, int]], *, steps: int, alpha: float) -> torch.Tensor:
    neighbours = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    return smoothed(torch.tensor(values), neighbours=neighbours, steps=steps, alpha=alpha)


@given(VALUES, st.data(), st.integers(1, 5), st.floats(0.1, 0.9))
def test_smoothing_against_a_loop(values: list[float], data: st.DataObject, steps: int, alpha: float):
    n = len(values)
    index = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(index, index), max_size=20, unique=True))
    expected = list(values)
    for _ in range(steps):
        means = [np.mean([expected[j] for i, j in pairs if i == k] or [values[k]]) for k in range(n)]
        expected = [(1 - alpha) * a + alpha * float(mean) for a, mean in zip(values, means, strict=True)]
    found = _smoothed(values, pairs, steps=steps, alpha=alpha)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_equal_values_stay_equal_and_those_without_neighbours_stay_as_they_are():
    pairs = [(0, 1), (1, 0), (1, 2), (2, 1)]
    found = _smoothed([2.0, 2.0, 2.0, 9.0], pairs, steps=4, alpha=0.5)
    assert found.tolist() == pytest.approx([2, 2, 2, 9])
    assert _smoothed([1.0, -3.0], [], steps=4, alpha=0.5).tolist() == [1, -3]


def test_a_peak_is_spread_as_far_as_there_are_steps():
    pairs = [(i, j) for i in range(7) for j in (i - 1, i + 1) if 0 <= j < 7]
    found = _smoothed([8.0, 0, 0, 0, 0, 0, 0], pairs, steps=3, alpha=0.5)
    assert (found[:4] > 0).all()
    assert (found[4:] == 0).all()
    assert (found.diff() <= 0).all()
