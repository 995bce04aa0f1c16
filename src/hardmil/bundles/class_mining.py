"""The hard negatives of a model of more than two classes, by the class that they are hard for."""

from collections.abc import Sequence
from dataclasses import replace

from hardmil.bags.bag import Bag
from hardmil.config.task import TaskConfig
from hardmil.mil.bag_score import BagScore
from hardmil.mining.hard_instances import HardInstance, mine_instances_above
from hardmil.mining.one_round import branch_view

DEFAULT_THRESHOLD = 0.5


def mine_by_class(
    bags: Sequence[Bag],
    *,
    scores: Sequence[BagScore],
    task: TaskConfig,
    thresholds: Sequence[float],
    n_sigma: float,
    source: str,
) -> list[HardInstance]:
    """The hard instances of the bags that were called a class and are not of it, class by class.

    Args:
        bags: Bags with labels.
        scores: The output of the model for each.
        task: The classes.
        thresholds: Of the score of each branch among all classes; where there are none, a bag is called a
            class if its branch answers yes.
        n_sigma: Number of standard deviations in Eq. 3.
        source: Which model that was: out-of-fold or bundle.

    Raises:
        BagError: If a score, attention or an instance logit is NaN or infinite.
    """
    found: list[HardInstance] = []
    if thresholds:
        scores = [_scored_among_all(score, task=task) for score in scores]
    for branch, name in enumerate(task.branch_names):
        seen, of_branch = branch_view(bags, scores, branch=branch, task=task)
        fooled = mine_instances_above(
            seen,
            scores=of_branch,
            threshold=thresholds[branch] if thresholds else DEFAULT_THRESHOLD,
            n_sigma=n_sigma,
            source=source,
        )
        found += [replace(one, hard_for=name) for one in fooled]
    return found


def _scored_among_all(score: BagScore, *, task: TaskConfig) -> BagScore:
    """The output with the scores that operating points are set on."""
    if score.class_scores is None:
        return score
    of_branches = task.branch_scores(score.class_scores).tolist()
    branches = zip(score.branches, of_branches, strict=True)
    return replace(score, branches=tuple(replace(one, bag_score=value) for one, value in branches))
