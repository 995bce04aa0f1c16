from collections.abc import Sequence

import numpy as np
import pytest

from hardmil.bags.bag import Bag
from hardmil.mil.bag_score import BagScore
from hardmil.mil.out_of_fold import Score, out_of_fold_scores


def _bags(n: int, *, slides_a_case: int) -> list[Bag]:
    """Slides s0, s1, ...: odd ones positive; the cases hold one or more slides of one label."""
    return [
        Bag(
            f"s{i}",
            f"c{i % 2}-{i // 2 // slides_a_case}",
            i % 2,
            np.zeros((1, 2), np.float32),
            np.zeros((1, 2), np.int64),
            0,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("slides_a_case", [1, 3])
def test_no_bag_is_scored_by_a_model_that_saw_its_case(slides_a_case: int):
    bags, seeds, scored = _bags(24, slides_a_case=slides_a_case), list[int](), list[str]()

    def learn(inside: Sequence[Bag], seed: int) -> Score:
        cases = {bag.case_id for bag in inside}
        seeds.append(seed)

        def score(outside: Sequence[Bag]) -> list[BagScore]:
            assert not cases & {bag.case_id for bag in outside}
            assert len(inside) + len(outside) == 24
            scored.extend(bag.slide_id for bag in outside)
            return [BagScore(int(bag.slide_id[1:]) / 100, np.ones(1), np.zeros(1)) for bag in outside]

        return score

    scores = out_of_fold_scores(bags, n_folds=4, seed=7, learn=learn)
    assert [score.bag_score for score in scores] == [i / 100 for i in range(24)]
    assert sorted(scored) == sorted(bag.slide_id for bag in bags)
    assert seeds == [8, 9, 10, 11]


def test_the_same_seed_trains_on_the_same_bags():
    bags = _bags(24, slides_a_case=2)

    def trainings(seed: int) -> list[list[str]]:
        found: list[list[str]] = []

        def learn(inside: Sequence[Bag], seed: int) -> Score:
            found.append([bag.slide_id for bag in inside])
            return lambda outside: [BagScore(0.5, np.ones(1), np.zeros(1)) for _ in outside]

        out_of_fold_scores(bags, n_folds=3, seed=seed, learn=learn)
        return found

    assert trainings(1) == trainings(1) != trainings(2)
