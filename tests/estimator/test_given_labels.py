import numpy as np
import pytest

from hardmil.errors import BagError
from hardmil.estimator.given_labels import weights_of


def test_weights_have_a_mean_of_1():
    assert weights_of(None, n_bags=3) == [1.0, 1.0, 1.0]
    assert weights_of([1, 2, 3], n_bags=3) == [0.5, 1.0, 1.5]
    assert weights_of(np.full(3, 7.0), n_bags=3) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\) for 3 bags"),
        ([1.0, -2.0, 1.0], "finite numbers of at least 0"),
        ([1.0, np.nan, 1.0], "finite numbers of at least 0"),
        ([0.0, 0.0, 0.0], "all weights are zero"),
        (["a", "b", "c"], "not numbers"),
    ],
)
def test_other_weights_are_refused(weights: list[float], message: str):
    with pytest.raises(BagError, match=message):
        weights_of(weights, n_bags=3)
