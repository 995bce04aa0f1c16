"""Scores of bags by models that never saw them."""

from collections.abc import Callable, Sequence

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.bags.folds import inner_folds
from hardmil.config.task import TWO_CLASSES, TaskConfig
from hardmil.mil.bag_score import BagScore

Score = Callable[[Sequence[Bag]], list[BagScore]]
"""A trained model: the scores of bags."""


def out_of_fold_scores(
    bags: Sequence[Bag],
    *,
    n_folds: int,
    seed: int,
    learn: Callable[[Sequence[Bag], int], Score],
    task: TaskConfig = TWO_CLASSES,
) -> list[BagScore]:
    """The score of each bag by a model that saw neither the bag nor another bag of its case.

    Args:
        bags: Training bags.
        n_folds: Number of folds by case; the same number and seed give the same trainings.
        seed: Seed of the folds; fold k is trained with seed + 1 + k.
        learn: Trains on some bags with a seed, and returns a function that scores others.
        task: What labels mean.

    Raises:
        FoldError: If a class has fewer than two cases.
    """
    labels = task.fold_labels(np.array([bag.label for bag in bags]))
    scores: dict[int, BagScore] = {}
    folds = inner_folds(labels, [bag.case_id for bag in bags], n_folds=n_folds, seed=seed)
    for number, fold in enumerate(folds):
        score = learn([bags[int(i)] for i in fold.train], seed + 1 + number)
        found = score([bags[int(i)] for i in fold.test])
        scores |= dict(zip(fold.test.tolist(), found, strict=True))
    return [scores[i] for i in range(len(bags))]
