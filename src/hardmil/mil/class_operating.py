"""Calls of a model of more than two classes: the predicted class, and an operating point for each branch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from hardmil.config.task import TaskConfig
from hardmil.mil.operating import OperatingPoint, set_operating_point


def predicted_classes(
    class_scores: Float[np.ndarray, "bag class"], *, task: TaskConfig
) -> Int[np.ndarray, " bag"]:
    """The position of the class that is predicted for each bag.

    Of exclusive classes, the one with the highest score. Of ordered classes, the highest one that has, with
    those above it, a score above 0.5: the median of the scores, not their mode.
    """
    if task.ordinal:
        return np.sum(task.branch_scores(class_scores) > 0.5, axis=-1)
    return np.argmax(class_scores, axis=-1)


def branch_labels(
    labels: Int[np.ndarray, " bag"], *, task: TaskConfig, branch: int
) -> Int[np.ndarray, " bag"]:
    """1 for each bag whose answer is yes, 0 for the others."""
    return np.array([int(task.is_yes(label, branch=branch)) for label in labels.tolist()], dtype=np.int64)


def set_class_operating_points(
    labels: Int[np.ndarray, " bag"],
    class_scores: Float[np.ndarray, "bag class"],
    *,
    task: TaskConfig,
    cases: Sequence[str],
    target: str,
    seed: int = 0,
) -> tuple[OperatingPoint, ...]:
    """The threshold of each branch for a target, set on out-of-fold scores as `set_operating_point` does.

    Args:
        labels: Positions of classes; every branch has bags of both answers.
        class_scores: Of models that did not see the bag; they sum to 1.
        task: The classes.
        cases: The case of each bag.
        target: "sensitivity=0.95", "fpr=0.05" or "youden"; the same for all branches, each against the rest.
        seed: Seed of the resampling.

    Raises:
        BagError: If a branch has no bag of one answer, or a score is not finite.
        ValueError: If `target` is none of these.
    """
    scores = task.branch_scores(class_scores)
    return tuple(
        set_operating_point(
            branch_labels(labels, task=task, branch=branch),
            scores[:, branch],
            cases=cases,
            target=target,
            seed=seed,
        )
        for branch in range(task.n_branches)
    )
