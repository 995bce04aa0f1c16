"""The forms in which users have bags: each gives the model that a list of arrays gives."""

from collections.abc import Callable

import awkward
import numpy as np
import pandas as pd
import pytest
import torch

from hardmil import MILClassifier
from hardmil.errors import BagError
from hardmil.estimator.given_bags import as_bags

RNG = np.random.default_rng(0)
BAGS = [RNG.normal(size=(int(n), 3)).astype(np.float32) for n in (4, 6, 5, 4, 7, 6)]
LABELS = np.arange(6) % 2
INDEX = np.repeat(np.arange(6), [len(bag) for bag in BAGS])


def _scores(bags: object) -> np.ndarray:
    model = MILClassifier(epochs=2, device="cpu").fit(bags, LABELS)  # type: ignore[arg-type]
    return model.predict_proba(bags)[:, 1]  # type: ignore[arg-type]


def _object_array() -> np.ndarray:
    array = np.empty(len(BAGS), dtype=object)
    array[:] = BAGS
    return array


@pytest.mark.parametrize(
    "form",
    [
        _object_array,
        lambda: tuple(BAGS),
        lambda: [torch.from_numpy(bag) for bag in BAGS],
        lambda: awkward.Array(BAGS),
        lambda: [pd.DataFrame(bag, columns=list("abc")) for bag in BAGS],
        lambda: (np.concatenate(BAGS), INDEX),
        lambda: (np.concatenate(BAGS), [f"slide {9 - i}" for i in INDEX]),
        lambda: (torch.from_numpy(np.concatenate(BAGS)), torch.from_numpy(INDEX)),
        lambda: (pd.DataFrame(np.concatenate(BAGS), index=INDEX), pd.Series(INDEX, index=INDEX)),
    ],
)
def test_all_forms_give_the_same_scores(form: Callable[[], object]):
    np.testing.assert_array_equal(_scores(form()), _scores(BAGS))


def test_rows_of_a_bag_need_not_be_adjacent_and_bags_keep_their_first_order():
    rows = np.arange(10.0).reshape(5, 2)
    bags = as_bags((rows, ["b", "a", "b", "c", "a"]))
    assert [np.asarray(bag)[:, 0].tolist() for bag in bags] == [[0, 4], [2, 8], [6]]


def test_two_bags_in_a_tuple_are_two_bags():
    assert as_bags((BAGS[0], BAGS[1])) == (BAGS[0], BAGS[1])
    assert as_bags((BAGS[0], [[1.0, 2.0], [3.0]])) == (BAGS[0], [[1.0, 2.0], [3.0]])


def test_rows_without_a_bag_are_refused():
    with pytest.raises(BagError, match="5 rows, but the bag of 4; expected one bag for each row"):
        as_bags((np.zeros((5, 2)), [0, 0, 1, 1]))
