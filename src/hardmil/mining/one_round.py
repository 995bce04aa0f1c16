"""One round of mining: the hard instances that each branch of the network finds.

A branch sees many classes as two: bags that are of its class, and bags that have nothing of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hardmil.bags.bag import Bag
from hardmil.config.mining import MiningConfig
from hardmil.config.task import TaskConfig
from hardmil.metrics import binary_metrics
from hardmil.mil.bag_score import BagScore
from hardmil.mil.inference import bag_scores
from hardmil.mining.hard_instances import (
    HardInstance,
    false_positive_bags,
    mine_instances,
    random_instances,
)

BRANCH_STEP = 10**6
"""Between the seeds of the random controls of two branches."""


@dataclass(frozen=True)
class Round:
    """New hard instances, and the number of false-positive bags, in all and of the negative class."""

    found: tuple[HardInstance, ...]
    n_bags: int
    n_negative_bags: int


def mine_round(
    bags: Sequence[Bag],
    *,
    scores: Sequence[BagScore],
    task: TaskConfig,
    mining: MiningConfig,
    number: int,
    pool: Sequence[HardInstance],
    seed: int,
) -> Round:
    """The hard instances of false-positive bags that are not yet in the pool, or their random control.

    Args:
        bags: Training bags.
        scores: The output of the model that decides on false positives, for each.
        task: The classes.
        mining: Threshold, n_sigma, source; whether it is the control.
        number: The round, from 1.
        pool: What earlier rounds mined.
        seed: Seed of the control.
    """
    negative = {bag.slide_id for bag in bags if bag.label == task.negative_label}
    found: list[HardInstance] = []
    n_bags = n_negative_bags = 0
    for branch, name in enumerate(task.branch_names):
        seen, of_branch = branch_view(bags, scores, branch=branch, task=task)
        positive = false_positive_bags(seen, scores=of_branch, threshold=mining.threshold)
        mined = mine_instances(
            [seen[i] for i in positive],
            scores=[of_branch[i] for i in positive],
            n_sigma=mining.n_sigma,
            number=number,
            source=mining.source,
        )
        known = {one.key for one in pool if one.hard_for == name}
        new = [one for one in mined if one.key not in known]
        if new and mining.draw == "random":
            own_seed = seed + BRANCH_STEP * branch
            new = random_instances(
                seen, scores=of_branch, n=len(new), number=number, seed=own_seed, known=known
            )
        found += [replace(one, hard_for=name) for one in new]
        n_bags += len(positive)
        n_negative_bags += sum(seen[i].slide_id in negative for i in positive)
    return Round(tuple(found), n_bags, n_negative_bags)


def branch_view(
    bags: Sequence[Bag], scores: Sequence[BagScore], *, branch: int, task: TaskConfig
) -> tuple[Sequence[Bag], Sequence[BagScore]]:
    """The bags with the answer of a branch as label, 1 for yes and 0 for no, and its scores."""
    if task.is_binary:
        return bags, scores
    seen = [replace(bag, label=int(task.is_yes(bag.label, branch=branch))) for bag in bags]
    return seen, [score.branches[branch] for score in scores]


def mean_auc(bags: Sequence[Bag], scores: Sequence[BagScore], *, task: TaskConfig) -> float:
    """The AUC of the scores, mean over the branches that have bags of both answers."""
    found: list[float] = []
    for branch in range(task.n_branches):
        seen, of_branch = branch_view(bags, scores, branch=branch, task=task)
        labels = np.array([bag.label for bag in seen])
        if len(set(labels.tolist())) == 2 or task.is_binary:
            found.append(binary_metrics(labels, bag_scores(of_branch)).auc)
    return float(np.mean(found))
