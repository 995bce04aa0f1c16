"""From the logits of the branches to the scores of more than two classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from hardmil.config.task import TaskConfig, of_steps
from hardmil.mil.bag_score import BagScore

LIKELY = 0.5
"""A score above it answers a question with yes."""


def class_scores(logits: Float[np.ndarray, " branch"], *, task: TaskConfig) -> Float[np.ndarray, " class"]:
    """The scores of all classes of one bag, which sum to 1, in float64.

    Of exclusive classes: the softmax of the logits, that of the negative class is 0. Of ordered classes:
    differences of "this class or a higher one", each at most as high as the one before. In a multi-label
    study: the logistic function of each logit; these do not sum to 1.
    """
    if task.multi_label:
        return _sigmoid(logits)
    if not task.ordinal:
        of_classes = _of_classes(logits, task=task)
        exponentials = np.exp(of_classes - of_classes.max())
        return exponentials / exponentials.sum()
    return of_steps(np.minimum.accumulate(_sigmoid(logits)))


def scores_by_class(scores: Sequence[BagScore], *, task: TaskConfig) -> Float[np.ndarray, "bag *class"]:
    """The scores of all classes of each bag; of two classes, only that of the positive one, of shape (bag,).

    Raises:
        ValueError: If a score of many classes has no `class_scores`.
    """
    if task.is_binary:
        return np.array([one.bag_score for one in scores])
    found = [one.class_scores for one in scores if one.class_scores is not None]
    if len(found) < len(scores):
        raise ValueError("scores without class_scores; expected those of more than two classes")
    return np.stack(found)


def called_class(scores: Float[np.ndarray, " class"], *, task: TaskConfig) -> int:
    """The class that a bag is called: of the highest score; of ordered classes, the highest that is likely.

    Likely means that "this class or a higher one" has a score above 0.5. In a multi-label study, the label
    with all classes that have a score above 0.5.
    """
    if task.multi_label:
        return sum(1 << k for k, score in enumerate(scores.tolist()) if score > LIKELY)
    if not task.ordinal:
        return int(np.argmax(scores))
    return int(np.sum(task.branch_scores(scores) > LIKELY))


def score_of_bag(scores: Float[np.ndarray, " class"], *, task: TaskConfig) -> float:
    """The score that stands for a bag: that of the class it is called; if multi-label, the highest."""
    return float(scores.max() if task.multi_label else scores[called_class(scores, task=task)])


def branch_of(score: BagScore, label: int, *, task: TaskConfig) -> BagScore:
    """The output of the branch of a label, see `TaskConfig.branch_of`."""
    if task.is_binary or score.class_scores is None:
        return score
    return score.branches[task.branch_of(label, class_scores=score.class_scores)]


def with_classes(
    branches: Sequence[BagScore], *, logits: Float[np.ndarray, " branch"], task: TaskConfig
) -> BagScore:
    """The output for one bag from those of its branches.

    A branch's own score compares its class with the strongest other one, so that it is above 0.5 where the
    bag is called this class; of ordered classes, it is that of "this class or a higher one", and in a
    multi-label study that of the class.

    Args:
        branches: Attention and logits of each branch; their scores are replaced.
        logits: The bag logit of each branch.
        task: The classes.
    """
    scores = class_scores(logits, task=task)
    is_own = task.ordinal or task.multi_label
    of_branches = task.branch_scores(scores) if is_own else _against_others(logits, task=task)
    scored = tuple(
        replace(one, bag_score=float(score)) for one, score in zip(branches, of_branches, strict=True)
    )
    called = called_class(scores, task=task)
    bag_score = score_of_bag(scores, task=task)
    whole = replace(scored[0], bag_score=bag_score, class_scores=scores, branches=scored)
    shown = branch_of(whole, called, task=task)
    return replace(shown, bag_score=whole.bag_score, class_scores=whole.class_scores, branches=whole.branches)


def mean_logits(
    scores: Sequence[Float[np.ndarray, " class"]], *, task: TaskConfig
) -> Float[np.ndarray, " branch"]:
    """The mean over several networks of the branch logits that give these scores."""
    found = np.stack(scores)
    if not (task.ordinal or task.multi_label):
        logits = np.log(found).mean(axis=0)
        reference = 0.0 if task.negative_label is None else logits[task.negative_label]
        return logits[list(task.branch_labels)] - reference
    of_yes = task.branch_scores(found)
    return (np.log(of_yes) - np.log1p(-of_yes)).mean(axis=0)


def _of_classes(logits: Float[np.ndarray, " branch"], *, task: TaskConfig) -> Float[np.ndarray, " class"]:
    """The logit of each class: of its branch, and 0 of the negative class."""
    found = np.zeros(task.n_classes)
    found[list(task.branch_labels)] = logits
    return found


def _against_others(
    logits: Float[np.ndarray, " branch"], *, task: TaskConfig
) -> Float[np.ndarray, " branch"]:
    of_classes = _of_classes(logits, task=task)
    others = np.array([np.delete(of_classes, label).max() for label in task.branch_labels])
    return _sigmoid(logits - others)


def _sigmoid(logits: Float[np.ndarray, " branch"]) -> Float[np.ndarray, " branch"]:
    """In float64, without overflow: exp is taken of numbers that are not positive only."""
    smaller = np.exp(-np.abs(logits.astype(np.float64)))
    return np.where(logits >= 0, 1 / (1 + smaller), smaller / (1 + smaller))
